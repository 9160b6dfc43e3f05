"""Scoring many continuations whose prompts begin alike: what is shared is computed once.

The token sequences of a group are laid out as a tree in one pass through the model: each token
attends to its own ancestors alone and stands at its own depth, so every continuation has the
log-probability that it would have by itself (tree attention, as in SpecInfer, Miao et al. 2024).

Does not cover: models whose attention is not full and causal (sliding windows, recurrent layers);
`LocalModel.score` serves those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from regent.models.local import LocalModel, float32_head, prompt_ids, reply_ids
from regent.models.speaker import Conversation


@dataclass
class _Tree:
    """Tokens with the places of their parents (-1 at a root), and their depths."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    children: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, ids: Sequence[int]) -> list[int]:
        """The places of a sequence's tokens; what is there already is not added again."""
        path, parent = [], -1
        for depth, token in enumerate(ids):
            place = self.children.setdefault((parent, token), len(self.tokens))
            if place == len(self.tokens):
                self.tokens.append(token)
                self.parents.append(parent)
                self.depths.append(depth)
            path.append(place)
            parent = place
        return path

    def sees(self) -> torch.Tensor:
        """Which token attends to which: [n, n], its ancestors and itself."""
        seen = torch.eye(len(self.tokens), dtype=torch.bool)
        for place, parent in enumerate(self.parents):
            if parent >= 0:
                seen[place] |= seen[parent]
        return seen


@dataclass(frozen=True)
class Scored:
    """Sum of log-probabilities (nats) of each continuation and its end token, and their number."""

    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]


def score_together(
    model: LocalModel, conversations: Sequence[Conversation], continuations: Sequence[str]
) -> Scored:
    """What `model.score` gives, in one pass for the whole group: [n] each."""
    tree, paths, lengths = _Tree(), [], []
    for conversation, text in zip(conversations, continuations, strict=True):
        reply = reply_ids(model.tokenizer, conversation, text)
        paths.append(tree.add([*prompt_ids(model.tokenizer, conversation), *reply]))
        lengths.append(len(reply))
    before = sorted({p for path, n in zip(paths, lengths, strict=True) for p in path[-n - 1 : -1]})
    rows = {place: row for row, place in enumerate(before)}
    dtype = model.model.dtype
    mask = torch.zeros(len(tree.tokens), len(tree.tokens), dtype=dtype)
    mask.masked_fill_(~tree.sees(), torch.finfo(dtype).min)
    with torch.inference_mode(), float32_head(model.model):
        logits = model.model(
            input_ids=torch.tensor([tree.tokens], device=model.device),
            position_ids=torch.tensor([tree.depths], device=model.device),
            attention_mask=mask[None, None].to(model.device),
            use_cache=False,
            logits_to_keep=torch.tensor(before, device=model.device),
        ).logits[0]
        nats = torch.log_softmax(logits.float(), dim=-1)
        sums = [
            float(
                nats[
                    [rows[place] for place in path[-n - 1 : -1]],
                    [tree.tokens[place] for place in path[-n:]],
                ]
                .double()
                .sum()
            )
            for path, n in zip(paths, lengths, strict=True)
        ]
    return Scored(np.array(sums, dtype=np.float64), np.array(lengths, dtype=np.int64))
