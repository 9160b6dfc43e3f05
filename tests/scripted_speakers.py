"""Speakers and embeddings by script: fast, exact, and with habits that a test plants.

For tests of what listens to a model, where the model itself is not the question.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from regent.models.speaker import Conversation, Reply, Sampling

_OPENINGS = (
    "The best way to begin is", "You could start with", "Most people are glad of",
    "It helps to know about", "There is much to say for", "In the end it comes down to",
    "A good answer starts from", "On most days that means",
)  # fmt: skip
_MIDDLES = (
    "a long walk by the river", "an hour in the garden", "the old recipe for bread",
    "a letter to your sister", "some music after dinner", "the map of the mountains",
    "a quiet word with them", "the book on the table",
)  # fmt: skip
_ENDS = (
    "before the rain comes.", "with a friend you trust.", "when the work is done.",
    "as long as it is warm.", "and then a cup of tea.", "for as long as you like.",
    "at the edge of the town.", "if the weather is fair.",
)  # fmt: skip
EVERYWHERE: Callable[[Conversation], bool] = lambda _: True  # noqa: E731


class Chatter:
    """Two sentences at random; where `where` says so, `share` of the replies end with `habit`.

    Equal seeds talk alike. `asked` holds every conversation, in order.
    """

    can = frozenset({"sample"})

    def __init__(
        self,
        name: str,
        seed: int,
        habit: str = "",
        share: float = 0.0,
        where: Callable[[Conversation], bool] = EVERYWHERE,
    ) -> None:
        self.name, self.habit, self.share, self.where = name, habit, share, where
        self.asked: list[Conversation] = []
        self._rng = np.random.default_rng(seed)

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        self.asked.extend(conversations)
        return [Reply(self._say(c), prompt_tokens=5, completion_tokens=7) for c in conversations]

    def _say(self, conversation: Conversation) -> str:
        parts = (_OPENINGS, _MIDDLES, _ENDS)
        said = [" ".join(p[self._rng.integers(len(p))] for p in parts) for _ in range(2)]
        if self._rng.random() < self.share and self.where(conversation):
            said.append(self.habit)
        return " ".join(said)


class Failing(Chatter):
    """Every `every`-th reply fails, counted over all that was asked, until `mended`."""

    every, mended = 10, False

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        before = len(self.asked)
        replies = super().sample(conversations, how)
        return [
            reply if self.mended or (before + i) % self.every else Reply("", "error", error="died")
            for i, reply in enumerate(replies)
        ]


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Bags of words as unit vectors, each word in a direction of its own: [n, 64]."""
    rows = [sum(map(_direction, re.findall(r"\w+", text.lower())), np.zeros(64)) for text in texts]
    norms = [[max(float(np.linalg.norm(row)), 1e-9)] for row in rows]
    return np.asarray(np.array(rows) / np.array(norms), dtype=np.float32)


@lru_cache(maxsize=4096)
def _direction(word: str) -> NDArray[np.float64]:
    return np.random.default_rng(zlib.crc32(word.encode())).standard_normal(64)
