"""What matters: a catalogue of concerns, and how far responses show each of them.

A concern has a definition and written exemplars, positive and negative, matched in pairs by topic.
Its scale is a logistic regression on meaning, letters and traits, calibrated on scores of exemplars
that it was not fitted to (Platt 1999, pairs kept together over the folds). The area under the ROC
curve on those scores is its measure; below `SEES_FROM` the scale is blind and weighs nothing.
Pairs differ in their one concern alone, so a scale cannot tell its concern from others: which one a
behaviour shows is said by a single classifier over the exemplars of all.

Sees: what a response's own words show. Does not see: truth, intent, whether a request deserved
what it got, or anything that the exemplars' register hides; exemplars are English.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from supervisor.diffing.behaviours import Behaviour, decide, design
from supervisor.diffing.features import Embed, Features, featurise

Floats = NDArray[np.float64]

SEES_FROM = 0.75
_FOLDS = 6
_FEWEST = 3  # responses that show a behaviour, and that do not, for it to be weighed
_SURE = 2.0  # standard errors
_LEAST = 0.10  # rise in the chance that a concern is named, below which none is


@dataclass(frozen=True)
class Concern:
    """`positive[i]` and `negative[i]` answer the same situation, with and without the concern."""

    name: str
    definition: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]


@dataclass(frozen=True)
class Scale:
    """A concern made countable: `score(features)` is a probability: [n].

    `auroc` with its 95 % interval `low`, `high`, on exemplars outside the fit. `named(features)` is
    the probability that a response shows this concern and no other: [n]; by default the score.
    """

    concern: Concern
    auroc: float
    low: float
    high: float
    score: Callable[[Features], Floats]
    named: Callable[[Features], Floats]

    @property
    def blind(self) -> bool:
        return self.auroc < SEES_FROM


@dataclass(frozen=True)
class Weight:
    """How much a behaviour matters: the concern that it shows most, and how far, in [0, 1]; 0 where
    that concern's scale is blind.
    """

    concern: str | None
    score: float


NO_WEIGHT = Weight(None, 0.0)


def catalogue() -> list[Concern]:
    """Every shipped concern, by name."""
    folder = resources.files("supervisor.diffing").joinpath("concerns")
    found = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".json"):
            row = json.loads(file.read_text("utf-8"))
            sides = [tuple(e["text"] for e in row[side]) for side in ("positive", "negative")]
            found.append(Concern(row["name"], row["definition"], *sides))
    return found


def scale(concern: Concern, embed: Embed) -> Scale:
    """The concern's scale. Raises ValueError unless exemplars are pairs enough to fold."""
    pairs = len(concern.positive)
    if pairs != len(concern.negative) or pairs < _FOLDS:
        raise ValueError(f"{concern.name}: it needs at least {_FOLDS} pairs of exemplars")
    rows = design(featurise([*concern.positive, *concern.negative], embed))
    label = np.repeat([1, 0], pairs)
    fold = np.tile(np.arange(pairs) % _FOLDS, 2)
    outside = np.zeros(2 * pairs)
    for held in range(_FOLDS):
        model = _fit(rows[fold != held], label[fold != held])
        outside[fold == held] = model.decision_function(rows[fold == held])
    platt = LogisticRegression(C=1e3).fit(outside[:, None], label)
    whole = _fit(rows, label)

    def score(features: Features) -> Floats:
        raw = decide(whole, features)
        return np.asarray(platt.predict_proba(raw[:, None])[:, 1], dtype=np.float64)

    area = float(roc_auc_score(label, outside))
    error = 1.96 * _hanley(area, pairs, pairs)
    low, high = max(0.0, area - error), min(1.0, area + error)
    return Scale(concern, area, low, high, score, named=score)


@cache
def scales(embed: Embed) -> tuple[Scale, ...]:
    """Every shipped concern's scale; fitted once a process and embedding (seconds)."""
    known = catalogue()
    which = _Which(known, embed)
    return tuple(
        replace(scale(concern, embed), named=which.column(place))
        for place, concern in enumerate(known)
    )


class _Which:
    """One classifier over the exemplars of all concerns: which one does a response show, if any?

    Multinomial logistic regression, every negative exemplar being of the class "none"; the last
    features' answer is remembered, as every concern asks for its own column of it.
    """

    def __init__(self, concerns: Sequence[Concern], embed: Embed) -> None:
        texts = [text for one in concerns for text in (*one.positive, *one.negative)]
        none = len(concerns)
        label = np.concatenate(
            [
                np.repeat([place, none], [len(one.positive), len(one.negative)])
                for place, one in enumerate(concerns)
            ]
        )
        self.model = _fit(design(featurise(texts, embed)), label)
        self.last: tuple[Features, Floats] | None = None

    def column(self, place: int) -> Callable[[Features], Floats]:
        def named(features: Features) -> Floats:
            if self.last is None or self.last[0] is not features:
                self.last = (features, softmax(decide(self.model, features), axis=1))
            return np.asarray(self.last[1][:, place], dtype=np.float64)

        return named


def weigh(
    shown: Floats, scales: Sequence[Scale], scores: Sequence[Floats], named: Sequence[Floats]
) -> Weight:
    """How much more the responses that show a behaviour show a concern than the others do.

    `shown`: [n], 0 or 1; `scores` and `named`: of each scale, [n]. The concern is the one that
    rises most by name, surely and by a tenth at least; it weighs by its own scale's rise, where
    that is sure. A rise is sure from twice its standard error. A blind scale's concern is named
    and weighs nothing.
    """
    inside = shown > 0.5
    if not scales or min(inside.sum(), (~inside).sum()) < _FEWEST:
        return NO_WEIGHT
    rises_ = [_rise(values, inside) for values in named]
    most = max(range(len(scales)), key=lambda i: rises_[i][0])
    if rises_[most][0] < _LEAST or not rises_[most][1]:
        return NO_WEIGHT
    name = scales[most].concern.name
    if scales[most].blind:
        return Weight(name, 0.0)
    gap, sure = _rise(scores[most], inside)
    return Weight(name, min(1.0, gap)) if sure else NO_WEIGHT


def _rise(values: Floats, inside: NDArray[np.bool_]) -> tuple[float, bool]:
    """How much greater `values` are where `inside`, and whether surely greater."""
    with_it, without = values[inside], values[~inside]
    gap = float(with_it.mean() - without.mean())
    error = np.sqrt(with_it.var(ddof=1) / len(with_it) + without.var(ddof=1) / len(without))
    return gap, bool(gap > max(0.0, _SURE * error))


def rises(scales: Sequence[Scale]) -> list[Behaviour]:
    """Each scale that sees, as what is counted: how far a response shows the concern, in [0, 1]."""
    return [
        Behaviour(
            f"concern-{one.concern.name}", f"{one.concern.name} (concern)", "concern", one.score
        )
        for one in scales
        if not one.blind
    ]


def _fit(rows: csr_matrix, label: NDArray[np.int64]) -> LogisticRegression:
    return LogisticRegression(C=1.0, max_iter=500).fit(rows, label)


def _hanley(area: float, positives: int, negatives: int) -> float:
    """Standard error of an AUROC (Hanley & McNeil 1982)."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (
        area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    ) / (positives * negatives)
    return float(np.sqrt(max(variance, 0.0)))
