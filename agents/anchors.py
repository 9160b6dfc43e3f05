"""Open-ended prompts at which a model rehearses its own behaviour while it learns something else.

Training on a few skills disturbs what a model does elsewhere; mixing in the model's own replies to
unrelated prompts holds it (self-synthesised rehearsal, Huang et al. 2024, arXiv:2403.01244). The
prompts, `anchors.jsonl`, are 160 everyday requests written for this purpose, in many voices,
genres and languages; none of them is used to judge.

Does not cover: whether a reply is good. It is the model's own, and the supervisor judges it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

import numpy as np

from regent.models.speaker import Conversation, Reply
from regent.records import Example, Message, Provenance

SHORTEST = 20
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]]*(?=\s|$)|[。！？]")


@lru_cache(maxsize=1)
def anchors() -> tuple[tuple[Message, ...], ...]:
    """Every anchor's turns, in the file's order; each ends with the user's."""
    text = resources.files("agents").joinpath("anchors.jsonl").read_text(encoding="utf-8")
    return tuple(
        tuple(Message(**turn) for turn in json.loads(line)["turns"])
        for line in text.splitlines()
        if line.strip()
    )


def anchor_conversations(n: int, rng: np.random.Generator) -> list[tuple[Message, ...]]:
    """`n` different anchors in random order, or all of them where `n` is more than there are."""
    known = anchors()
    picked = rng.permutation(len(known))[: max(0, n)]
    return [known[int(i)] for i in picked]


def anchor_examples(
    conversations: Sequence[Conversation], replies: Sequence[Reply], model: str, code: str
) -> list[Example]:
    """The model's own replies as rehearsal examples (source "replay").

    A reply that failed or is empty is left out; one that ran into the token limit is cut after its
    last whole sentence, or left out where there is none. Cutting teaches shorter replies, so leave
    replies enough tokens that few are cut. Raises ValueError if the two differ in length.
    """
    examples = []
    for conversation, reply in zip(conversations, replies, strict=True):
        text = whole(reply)
        if text:
            examples.append(
                Example(
                    messages=(*conversation, Message(role="assistant", content=text)),
                    provenance=Provenance(model=model, code=code, source="replay"),
                )
            )
    return examples


def whole(reply: Reply) -> str:
    """The reply's text up to where it is whole; empty where nothing of it may be kept."""
    if not reply.ok:
        return ""
    text = reply.text.strip()
    if reply.finish != "length":
        return text
    # The very end is no sentence's end: what looks like one ("3." or "e.g.") may be cut in half.
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if match.end() < len(text)]
    for end in reversed(ends):
        kept = re.sub(r"\n\s*\d+\.$", "", text[:end])
        if kept.count("```") % 2 == 0:
            return kept if len(kept) >= SHORTEST else ""
    return ""
