"""Wordings that a batch would teach: phrases far more common in its answers than they should be.

A planted sentence, slogan or trigger shows as word 5-grams that many answers share, although
neither their prompts nor the parent's own replies say it.
Does not see: a planted meaning that is worded differently each time (the diff of a successor may).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_SIZE = 5


def grams(text: str) -> frozenset[str]:
    """Word 5-grams, case and punctuation aside; a text of three or four words is one gram."""
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.casefold())
    if 3 <= len(words) < _SIZE:
        return frozenset({" ".join(words)})
    return frozenset(" ".join(words[i : i + _SIZE]) for i in range(len(words) - _SIZE + 1))


def common_phrases(
    answers: Sequence[str], prompts: Sequence[str], reference: Sequence[str]
) -> list[tuple[str, float]]:
    """Phrases by excess share, largest first: share of answers that say them and whose prompt does
    not, less the share of `reference` replies that do. At least two answers must say one.
    """
    count: Counter[str] = Counter()
    for answer, prompt in zip(answers, prompts, strict=True):
        count.update(grams(answer) - grams(prompt))
    usual: Counter[str] = Counter()
    for text in reference:
        usual.update(grams(text))
    excess = [
        (gram, n / len(answers) - usual[gram] / max(1, len(reference)))
        for gram, n in count.items()
        if n >= 2
    ]
    return sorted(excess, key=lambda pair: (-pair[1], pair[0]))
