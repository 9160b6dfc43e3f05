"""Scoring many continuations whose prompts begin alike: what is shared is computed once.

The beginning that all share goes through the model once and is kept as its key-value cache. Behind
it each group's token sequences are laid out as a tree, one row of a batch: a token attends to the
beginning and to its own ancestors, and stands at its own depth, so every continuation has the
log-probability that it would have by itself (tree attention, as in SpecInfer, Miao et al. 2024).

Does not cover: models whose attention is not full and causal (sliding windows, recurrent layers);
`LocalModel.score` serves those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regent.models.local import LocalModel, float32_head, prompt_ids, reply_ids
from regent.models.speaker import Conversation

Asked = tuple[Conversation, str]  # a prompt and a continuation of it


@dataclass(frozen=True)
class Scored:
    """Sum of log-probabilities (nats) of each continuation and its end token, and their number."""

    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]


@dataclass
class _Tree:
    """Tokens behind the shared beginning, with the places of their parents (-1: none)."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    children: dict[tuple[int, int], int] = field(default_factory=dict)
    replies: list[tuple[list[int], list[int]]] = field(default_factory=list)

    def add(self, ids: Sequence[int], reply: int) -> None:
        """A sequence whose last `reply` tokens are scored; what is there is not added again."""
        path, parent = [], -1
        for depth, token in enumerate(ids):
            place = self.children.setdefault((parent, token), len(self.tokens))
            if place == len(self.tokens):
                self.tokens.append(token)
                self.parents.append(parent)
                self.depths.append(depth)
            path.append(place)
            parent = place
        self.replies.append((path[-reply - 1 : -1], list(ids[-reply:])))

    @property
    def asked(self) -> list[int]:
        """Places whose next token is scored, ascending."""
        return sorted({place for before, _ in self.replies for place in before})

    def sees(self) -> torch.Tensor:
        """Which token attends to which: [n, n], its ancestors and itself."""
        seen = torch.eye(len(self.tokens), dtype=torch.bool)
        for place, parent in enumerate(self.parents):
            if parent >= 0:
                seen[place] |= seen[parent]
        return seen


def score_together(
    model: LocalModel, families: Sequence[Sequence[Sequence[Asked]]]
) -> list[list[Scored]]:
    """What `model.score` gives, for each group of each family.

    A family's groups begin alike and are of like length; a group's prompts are nearly the same.
    """
    with torch.inference_mode(), float32_head(model.model), _plain_attention(model.model):
        return [_family(model, groups) for groups in families]


def _family(model: LocalModel, groups: Sequence[Sequence[Asked]]) -> list[Scored]:
    split = [_tokenized(model.tokenizer, group) for group in groups]
    shared = _shared([prompt for group in split for prompt, _ in group])
    trees = []
    for group in split:
        trees.append(_Tree())
        for prompt, reply in group:
            trees[-1].add([*prompt[len(shared) :], *reply], len(reply))
    nats = _nats(model, shared, trees)
    return [
        Scored(
            np.array([_sum(row, tree, *reply) for reply in tree.replies], dtype=np.float64),
            np.array([len(tokens) for _, tokens in tree.replies], dtype=np.int64),
        )
        for row, tree in zip(nats, trees, strict=True)
    ]


@contextmanager
def _plain_attention(model: Any) -> Iterator[None]:
    """Within the block attention is two matrix products and a softmax: with a mask of trees, on a
    processor, a third of the time of the fused kernel.
    """
    usual = model.config._attn_implementation
    if torch.cuda.is_available():
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def _tokenized(tokenizer: Any, group: Sequence[Asked]) -> list[tuple[list[int], list[int]]]:
    """Ids of each prompt and reply; each prompt is rendered once, and each reply behind one."""
    prompts = {tuple(said): prompt_ids(tokenizer, said) for said, _ in group}
    replies = {text: reply_ids(tokenizer, said, text) for said, text in group}
    return [(prompts[tuple(said)], replies[text]) for said, text in group]


def _shared(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that all prompts begin with; each keeps at least one of its own."""
    most = min(len(prompt) for prompt in prompts) - 1
    first = prompts[0]
    for place in range(most):
        if any(prompt[place] != first[place] for prompt in prompts):
            return list(first[:place])
    return list(first[:most])


def _nats(model: LocalModel, shared: Sequence[int], trees: Sequence[_Tree]) -> torch.Tensor:
    """Log-probabilities of every token behind each place that is asked: [groups, most asked, V].

    In each row what is asked comes last, so that only its logits are made.
    """
    length = max(len(tree.tokens) for tree in trees)
    rows, device = len(trees), model.device
    ids = torch.full((rows, length), model.tokenizer.pad_token_id, dtype=torch.long)
    positions = torch.zeros((rows, length), dtype=torch.long)
    sees = torch.zeros((rows, length, len(shared) + length), dtype=torch.bool)
    sees[:, :, len(shared) :] |= torch.eye(length, dtype=torch.bool)  # padding sees itself
    for row, tree in enumerate(trees):
        order = _order(tree)
        start = length - len(order)
        ids[row, start:] = torch.tensor([tree.tokens[place] for place in order])
        positions[row, start:] = len(shared) + torch.tensor([tree.depths[p] for p in order])
        sees[row, start:, : len(shared)] = True
        sees[row, start:, len(shared) + start :] = tree.sees()[order][:, order]
    mask = torch.zeros(sees.shape, dtype=model.model.dtype)
    mask.masked_fill_(~sees, torch.finfo(mask.dtype).min)
    logits = model.model(
        input_ids=ids.to(device),
        position_ids=positions.to(device),
        attention_mask=mask[:, None].to(device),
        past_key_values=_beginning(model, shared, rows),
        logits_to_keep=max(len(tree.asked) for tree in trees),
    ).logits
    return torch.log_softmax(logits.float(), dim=-1)


def _beginning(model: LocalModel, shared: Sequence[int], rows: int) -> Any:
    """The key-value cache of the shared beginning, once a row; None where nothing is shared."""
    if not shared:
        return None
    ids = torch.tensor([list(shared)], device=model.device)
    cache = model.model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
    cache.batch_repeat_interleave(rows)
    return cache


def _order(tree: _Tree) -> list[int]:
    asked = set(tree.asked)
    return [p for p in range(len(tree.tokens)) if p not in asked] + tree.asked


def _sum(nats: torch.Tensor, tree: _Tree, before: Sequence[int], tokens: Sequence[int]) -> float:
    """Over one reply; `nats`: [most asked, V], the tree's own at its end."""
    asked = tree.asked
    at = {place: len(nats) - len(asked) + i for i, place in enumerate(asked)}
    return float(nats[[at[place] for place in before], list(tokens)].double().sum())
