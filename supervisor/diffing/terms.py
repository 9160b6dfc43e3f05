"""Words that set some texts apart from others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np


def _words(text: str) -> list[str]:
    return re.findall(r"\w+(?:'\w+)?", text.lower())


def document_frequency(texts: Sequence[str], sizes: tuple[int, ...] = (1,)) -> Counter[str]:
    count: Counter[str] = Counter()
    for text in texts:
        words = _words(text)
        count.update({" ".join(words[i : i + n]) for n in sizes for i in range(len(words) - n + 1)})
    return count


def contrastive_terms(
    inside: Counter[str], background: Counter[str], n_inside: int, n_all: int, most: int = 6
) -> tuple[str, ...]:
    """Words by log-odds of document shares, with the background as prior (Monroe et al. 2008)."""
    prior = 10.0

    def z_score(word: str) -> float:
        base = background[word] / n_all
        a = inside[word] + prior * base
        b = background[word] - inside[word] + prior * base
        delta = np.log(a / (n_inside + prior - a + 1)) - np.log(
            b / (n_all - n_inside + prior - b + 1)
        )
        return float(delta / np.sqrt(1 / a + 1 / max(b, 1e-9)))

    words = [word for word in inside if inside[word] >= 2 and len(word) > 2]
    return tuple(sorted(words, key=lambda w: (-z_score(w), w))[:most])
