"""Wordings that a batch would teach: phrases far more common in its answers than they should be.

A planted sentence, slogan or trigger shows as word 5-grams that many answers share, although
neither their prompts nor the parent's own replies to such prompts say it.
Does not see: a planted meaning that is worded differently each time (the diff of a successor may).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from supervisor.statistics.exact import clopper_pearson

_SIZE = 5
_SURE = 0.95


def grams(text: str) -> frozenset[str]:
    """Word 5-grams, case and punctuation aside; a text of three or four words is one gram."""
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.casefold())
    if 3 <= len(words) < _SIZE:
        return frozenset({" ".join(words)})
    return frozenset(" ".join(words[i : i + _SIZE]) for i in range(len(words) - _SIZE + 1))


class Phrase(NamedTuple):
    """A wording, the share of answers that say it unprompted, and the parent's own share of it.

    `excess` is `share` less what the parent's share could be: its one-sided 95 % upper limit
    (Clopper & Pearson 1934), and nothing where the parent never says it.
    """

    words: str
    share: float
    usual: float
    excess: float


def common_phrases(
    answers: Sequence[str], prompts: Sequence[str], reference: Sequence[str]
) -> list[Phrase]:
    """Phrases by excess, largest first. `share`: answers that say one and whose prompt does not;
    `usual`: replies in `reference` that do. At least two answers must say one.
    """
    count: Counter[str] = Counter()
    for answer, prompt in zip(answers, prompts, strict=True):
        count.update(grams(answer) - grams(prompt))
    usual: Counter[str] = Counter()
    for text in reference:
        usual.update(grams(text))
    found = []
    for gram, n in count.items():
        if n >= 2:
            own = most = 0.0
            if usual[gram]:
                own, _, most = clopper_pearson(usual[gram], len(reference), _SURE, sides=1)
            share = n / len(answers)
            found.append(Phrase(gram, share, own, share - most))
    return sorted(found, key=lambda phrase: (-phrase.excess, phrase.words))
