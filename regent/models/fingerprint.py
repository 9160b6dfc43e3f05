"""What a served model says to a few fixed prompts, greedily: how one knows which weights answer.

Sees a switch that did not happen or was undone: the same weights on the same server give the same
fingerprint, and `teacher_error` measures the distance from what Transformers computes from given
weights. Does not see a change that alters neither the greedy tokens nor their log-probabilities.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

PROMPTS = (
    "What is 7 + 5? Answer with the number.",
    "Name three colours of the rainbow.",
    "Say in one sentence why ice floats on water.",
)
_TOKENS = 5  # a prompt: decoding one alone is most of what a switch costs


@dataclass(frozen=True)
class Fingerprint:
    """Greedy replies to PROMPTS and the log-probability (nats) of each of their tokens."""

    replies: tuple[str, ...]
    logprobs: tuple[tuple[float, ...], ...]


def take_fingerprint(client: httpx.Client, model: str) -> Fingerprint:
    """Ask the server behind `client` (its base is the server's root).

    One prompt after the other, each under a cache salt of its own: neither batching nor a cached
    prefix may change the numerics. Raises httpx.HTTPError where the server does not answer.
    """
    replies, logprobs = [], []
    for prompt in PROMPTS:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": _TOKENS,
            "temperature": 0.0,
            "logprobs": True,
            "cache_salt": secrets.token_hex(16),
        }
        answer = client.post("/v1/chat/completions", json=body).raise_for_status().json()
        choice = answer["choices"][0]
        replies.append(choice["message"]["content"])
        logprobs.append(tuple(token["logprob"] for token in choice["logprobs"]["content"]))
    return Fingerprint(tuple(replies), tuple(logprobs))


def teacher_logprobs(folder: Path, replies: tuple[str, ...]) -> list[NDArray[np.float64]]:
    """What Transformers computes from `folder`: each reply's log-probabilities, [tokens]."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    computed = []
    for prompt, reply in zip(PROMPTS, replies, strict=True):
        turns = [{"role": "user", "content": prompt}]
        asked = str(
            tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        )
        start = len(tokenizer(asked, add_special_tokens=False)["input_ids"])
        ids = tokenizer(asked + reply, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            rows = model(ids).logits[0, start - 1 : -1].float().log_softmax(dim=-1)
        computed.append(rows.gather(1, ids[0, start:, None])[:, 0].numpy().astype(np.float64))
    return computed


def teacher_error(fingerprint: Fingerprint, teacher: list[NDArray[np.float64]]) -> float:
    """Mean |served − teacher| log-probability, nats a token.

    The end-of-turn token is in the served list and not in the reply's text, so the shorter decides.
    """
    differences = [
        abs(served - expected)
        for row, computed in zip(fingerprint.logprobs, teacher, strict=True)
        for served, expected in zip(row, computed, strict=False)
    ]
    return float(np.mean(differences)) if differences else float("nan")
