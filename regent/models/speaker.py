"""The vocabulary for speaking with a language model.

A `Speaker` samples; one with weights at hand also scores continuations and shows hidden states.
A reply that did not come is a `Reply` with `error` set, never an empty success: whoever counts
replies must look at `ok`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regent.records import Message

Conversation = Sequence[Message]


@dataclass(frozen=True)
class Sampling:
    """How to draw a reply. `temperature` 0 is greedy; `max_tokens` caps the reply's length."""

    max_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: dict[str, Any] | None = field(default=None, hash=False)


@dataclass(frozen=True)
class Reply:
    """One reply: its text, why it ended (`stop`, `length`, `error`) and what it cost in tokens."""

    text: str
    finish: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class Speaker(Protocol):
    """Anything that can be asked. `can` names its verbs: "sample", "score", "hidden"."""

    name: str
    can: frozenset[str]

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        """One reply a conversation, in order. Failures come back as replies with `error`."""
        ...


class Scorer(Speaker, Protocol):
    """A speaker with weights at hand."""

    def score(
        self, conversations: Sequence[Conversation], continuations: Sequence[str]
    ) -> NDArray[np.float64]:
        """Sum of log-probabilities (nats) of each continuation as the assistant's reply: [n]."""
        ...

    def hidden(self, conversations: Sequence[Conversation], layer: int) -> NDArray[np.float32]:
        """State of the last prompt token at `layer` (0 is the embedding): [n, width]."""
        ...
