"""How alike are texts of different frames? Word trigrams shared, and distinct bigrams."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from supervisor.reflectivity.items import Item

MEDIAN, NINETY_FIFTH, DISTINCT = 0.08, 0.20, 0.45
Gram = tuple[str, ...]


def nearest(items: Sequence[Item]) -> tuple[float, float]:
    """Median and 95th percentile, over items, of the trigram Jaccard similarity to the nearest item
    of another frame (context, question and options).
    """
    grams = [trigrams(item.text) for item in items]
    best = []
    for i, item in enumerate(items):
        others = (
            jaccard(grams[i], grams[j])
            for j, other in enumerate(items)
            if other.frame != item.frame
        )
        best.append(max(others, default=0.0))
    return float(np.median(best)), float(np.quantile(best, 0.95))


def distinct_bigrams(items: Sequence[Item]) -> float:
    """Distinct bigrams over all bigrams, of the first variant of each quad."""
    seen: set[tuple[str, ...]] = set()
    total = 0
    for item in items:
        if item.variant == "a1":
            words = _words(item.text)
            pairs = list(pairwise(words))
            seen.update(pairs)
            total += len(pairs)
    return len(seen) / total if total else 0.0


def normalised(text: str) -> str:
    """Lower case, letters and digits only, single spaces: what is the same after it is the same."""
    return " ".join(_words(text))


def runs(text: str, n: int) -> frozenset[Gram]:
    """Every run of `n` words."""
    words = _words(text)
    return frozenset(zip(*(words[i:] for i in range(n)), strict=False))


def trigrams(text: str) -> frozenset[Gram]:
    """Every run of three words."""
    return runs(text, 3)


def jaccard(one: frozenset[Gram], other: frozenset[Gram]) -> float:
    """Shared over all, in [0, 1]; 0 where nothing is shared."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())
