"""Two models of one vocabulary side by side: where their next tokens differ, and amplified drawing.

Needs the weights of both and one tokenizer. Does not cover servers, nor what the differences mean
(`supervisor.diffing.inside`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regent.errors import CannotRun
from regent.models.local import LocalModel, float32_head, prompt_ids, reply_ids
from regent.models.speaker import Conversation

_BATCH = 8  # logits of a whole vocabulary in float32, twice


@dataclass(frozen=True)
class TokenDivergence:
    """One reply of `a`, token by token, `T` of them (its end token last).

    `tokens`: the reply's tokens as text; `nats`: KL(a ‖ b) of the next token before each, [T];
    `gains`: the token whose probability b raises most there, and by how much.
    """

    tokens: tuple[str, ...]
    nats: NDArray[np.float64]
    gains: tuple[tuple[str, float], ...]


def same_vocabulary(a: LocalModel, b: LocalModel) -> None:
    """Raises CannotRun where the two do not share a tokenizer."""
    if a.tokenizer.get_vocab() != b.tokenizer.get_vocab():
        raise CannotRun(
            f"{a.name} and {b.name} differ in their tokenizer: next tokens cannot be compared"
        )


def token_divergences(
    a: LocalModel, b: LocalModel, conversations: Sequence[Conversation], replies: Sequence[str]
) -> list[TokenDivergence]:
    """KL of the next-token distributions along `a`'s replies (one to each conversation).

    The sum along a reply estimates the KL of whole replies (chain rule), without its own sampling
    noise at each step. Raises CannotRun on two tokenizers.
    """
    same_vocabulary(a, b)
    asked = [prompt_ids(a.tokenizer, conversation) for conversation in conversations]
    told = [
        reply_ids(a.tokenizer, conversation, text)
        for conversation, text in zip(conversations, replies, strict=True)
    ]
    order = sorted(range(len(told)), key=lambda i: -len(asked[i]) - len(told[i]))
    found: dict[int, TokenDivergence] = {}
    both = float32_head(b.model) if b.model is not a.model else nullcontext()
    with torch.inference_mode(), float32_head(a.model), both:
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            longest = max(len(told[i]) for i in batch)
            inputs = a.padded([asked[i] + told[i] for i in batch])
            ours, theirs = (
                torch.log_softmax(
                    model(**inputs, logits_to_keep=longest + 1).logits[:, :-1].float(), dim=-1
                )
                for model in (a.model, b.model)
            )
            nats = (ours.exp() * (ours - theirs)).sum(-1).clamp(min=0).double().cpu().numpy()
            risen, which = (theirs.exp() - ours.exp()).max(dim=-1)
            for row, i in enumerate(batch):
                kept = slice(longest - len(told[i]), longest)
                found[i] = TokenDivergence(
                    tuple(a.tokenizer.convert_ids_to_tokens(told[i])),
                    nats[row, kept],
                    tuple(
                        (a.tokenizer.decode([token]), float(rise))
                        for token, rise in zip(
                            which[row, kept].tolist(), risen[row, kept].tolist(), strict=True
                        )
                    ),
                )
    return [found[i] for i in range(len(told))]


def amplified(
    before: LocalModel,
    after: LocalModel,
    conversations: Sequence[Conversation],
    *,
    alpha: float,
    max_tokens: int,
    seed: int,
) -> list[str]:
    """Replies drawn from logits_after + alpha (logits_after − logits_before), one a conversation.

    What training brought, exaggerated (contrastive decoding, Li et al. 2023): for finding
    behaviours, not for rates. Equal seeds give equal replies.

    Raises CannotRun on two tokenizers.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    same_vocabulary(before, after)
    prompts = [prompt_ids(after.tokenizer, conversation) for conversation in conversations]
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    texts: dict[int, str] = {}
    config = GenerationConfig(
        max_new_tokens=max_tokens,
        do_sample=True,
        top_k=0,
        top_p=0.95,  # the difference of two small probabilities is mostly noise
        eos_token_id=after.tokenizer.eos_token_id,
        pad_token_id=after.tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        for start in range(0, len(order), 4 * _BATCH):
            batch = order[start : start + 4 * _BATCH]
            inputs = after.padded([prompts[i] for i in batch])
            inputs.pop("position_ids")
            push = _Push(before.model, inputs["attention_mask"], alpha)
            drawn = after.model.generate(
                **inputs, generation_config=config, logits_processor=LogitsProcessorList([push])
            )
            width = inputs["input_ids"].shape[1]
            for row, i in enumerate(batch):
                texts[i] = after.tokenizer.decode(drawn[row, width:], skip_special_tokens=True)
    return [texts[i] for i in range(len(prompts))]


class _Push:
    """Adds alpha (after − before) to the logits; keeps the other model's state between steps."""

    def __init__(self, before: Any, mask: torch.Tensor, alpha: float) -> None:
        self.before, self.mask, self.alpha = before, mask, alpha
        self.state: Any = None

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        fresh = ids if self.state is None else ids[:, -1:]
        if self.state is not None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(ids), 1)], dim=1)
        positions = (self.mask.cumsum(-1) - 1).clamp(min=0)[:, -fresh.shape[1] :]
        told = self.before(
            input_ids=fresh,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.state,
            use_cache=True,
            logits_to_keep=1,
        )
        self.state = told.past_key_values
        pushed: torch.Tensor = scores + self.alpha * (scores - told.logits[:, -1].to(scores.dtype))
        return pushed
