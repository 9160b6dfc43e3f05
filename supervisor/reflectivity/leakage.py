"""Can an item be answered without understanding it? Shallow solvers, each with its accuracy.

Trained ones are linear, and judged on frames that they were not trained on (cross-validation
grouped by frame, averaged over shuffles). Each predicts two things, and the better counts: which
place the right option has, and which *kind* of answer is right (welcome or not, before or after,
with the push or not), as kinds recur from frame to frame. Untrained ones may be read the other way
about, so that 0.4 counts as 0.6.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from supervisor.reflectivity.faults import content, negated
from supervisor.reflectivity.items import Item

SHALLOW, COMBINED = 0.55, 0.60  # what a solver of one cue may reach, and one of several
_FOLDS, _SHUFFLES = 5, 8
Floats = NDArray[np.float64]


def leaks(items: Sequence[Item]) -> dict[str, tuple[float, float]]:
    """Accuracy and threshold of each shallow solver on the items of one sub-task."""
    gold, kinds = (np.array([getattr(i, name) for i in items]) for name in ("gold", "kind"))
    kind = (gold == kinds).astype(int)
    frames = np.array([item.frame for item in items])
    contexts = [item.context for item in items]
    negation = csr_matrix(np.array([[_negations(item.context)] for item in items], dtype=float))
    gaps = _overlap_gap(items)
    gap = csr_matrix(gaps[:, None])
    by_kind = csr_matrix((gaps * np.where(kinds == 1, 1, -1))[:, None])
    feelings = csr_matrix(np.array([_feelings(item) for item in items]))

    def trained(rows: csr_matrix, of_kind: csr_matrix | None = None) -> float:
        return max(
            _held_out(rows, gold, frames),
            _held_out(rows if of_kind is None else of_kind, kind, frames),
        )

    bag = _bag(contexts)
    questions = _bag([i.question for i in items])
    options = csr_matrix(
        hstack([_bag([i.options[0] for i in items]), _bag([i.options[1] for i in items])])
    )
    return {
        "options only": (trained(options), SHALLOW),
        "context only": (trained(bag), SHALLOW),
        "question only": (trained(questions), SHALLOW),
        "longest option": (_either(items, _longest), SHALLOW),
        "first option": (_either(items, lambda item: 0), SHALLOW),
        "last mentioned": (_either(items, _last_mentioned), SHALLOW),
        "lexical overlap": (_either(items, _most_overlap), SHALLOW),
        "sentiment": (trained(feelings), SHALLOW),
        "negation and overlap": (
            trained(
                csr_matrix(hstack([negation, gap, negation.multiply(gap)])),
                csr_matrix(hstack([negation, by_kind, negation.multiply(by_kind)])),
            ),
            COMBINED,
        ),
        "bag of words": (trained(csr_matrix(hstack([bag, questions, options]))), COMBINED),
    }


def _held_out(rows: csr_matrix, label: NDArray[np.int64], frames: NDArray[np.str_]) -> float:
    """Accuracy of a logistic regression on frames outside its fit."""
    if len(set(frames)) < _FOLDS or len(set(label)) < 2:
        return 0.5
    right = []
    for shuffle in range(_SHUFFLES):
        folds = GroupKFold(_FOLDS, shuffle=True, random_state=shuffle)
        for train, test in folds.split(rows, label, frames):
            if len(set(label[train])) < 2:
                continue
            model = LogisticRegression(C=1.0, max_iter=1_000).fit(rows[train], label[train])
            right.append(float((model.predict(rows[test]) == label[test]).mean()) * len(test))
    return sum(right) / (len(label) * _SHUFFLES)


def _bag(texts: Sequence[str]) -> csr_matrix:
    return csr_matrix(
        CountVectorizer(binary=True, token_pattern=r"[a-z'’]+").fit_transform(texts), dtype=float
    )


def _either(items: Sequence[Item], choose: Callable[[Item], int | None]) -> float:
    """Accuracy of an untrained solver, or of its opposite; None is a coin."""
    right = [
        0.5 if (chosen := choose(item)) is None else float(chosen == item.gold) for item in items
    ]
    share = float(np.mean(right))
    return max(share, 1 - share)


def _longest(item: Item) -> int | None:
    one, other = map(len, item.options)
    return None if one == other else int(other > one)


def _last_mentioned(item: Item) -> int | None:
    """The option one of whose own words comes last in the context."""
    words = [word[:5] for word in re.findall(r"[a-z]+", item.context.lower())]
    own = [content(option) for option in item.options]
    places = [
        max((i for i, word in enumerate(words) if word in own[o] - own[1 - o]), default=-1)
        for o in (0, 1)
    ]
    return None if places[0] == places[1] else int(places[1] > places[0])


def _overlap_gap(items: Sequence[Item]) -> Floats:
    """Content words that the context shares with the second option beyond the first, by option."""
    gaps = []
    for item in items:
        words = content(item.context)
        share = [len(own & words) / max(1, len(own)) for own in map(content, item.options)]
        gaps.append(share[1] - share[0])
    return np.array(gaps)


def _most_overlap(item: Item) -> int | None:
    gap = float(_overlap_gap([item])[0])
    return None if gap == 0 else int(gap > 0)


def _negations(text: str) -> int:
    return sum(negated(sentence) for sentence in re.split(r"(?<=[.!?;:])\s", text))


def _feelings(item: Item) -> list[float]:
    """VADER polarity (Hutto & Gilbert 2014) of the context and of each option, in [-1, 1]."""
    context, first, second = (
        float(_analyser().polarity_scores(text)["compound"])
        for text in (item.context, *item.options)
    )
    return [context, first, second, context * (second - first)]


@cache
def _analyser() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()
