"""What answers to probing items say about a model: arrays in, figures out.

Items of one frame share their text, so an interval is over frames, not items: a percentile
bootstrap. A sub-task whose interval holds chance is *blind*: the model cannot testify.

Two models: the paired difference with its interval over frames, the exact McNemar test over items,
Holm's adjustment over the sub-tasks (1979). `worse` needs both; `stable` is claimed only where the
whole interval lies within the margin of equivalence, never from a difference that was not found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supervisor.reflectivity.frame import SUBTASKS, Subtask
from supervisor.reflectivity.items import Item
from supervisor.statistics.exact import clopper_pearson, mcnemar

Floats = NDArray[np.float64]
CHANCE = 0.5
MARGIN = 0.10  # difference in accuracy within which two models are called stable
LEVEL, _RESAMPLES, _BINS = 0.95, 4_000, 10


@dataclass(frozen=True)
class Score:
    """One sub-task of one model. `consistency`: share of quads with all four right (chance 1/16).

    `brier` and `ece` (expected calibration error, ten bins; Guo et al. 2017) are of the
    probability that the model gives the right option; a coin has 0.25 and 0.
    `missing`: items without an answer, which count in nothing else.
    """

    subtask: Subtask
    accuracy: float
    low: float
    high: float
    chance: float
    blind: bool
    brier: float
    ece: float
    consistency: float
    n: int
    missing: int


@dataclass(frozen=True)
class Change:
    """One sub-task, the second model's accuracy less the first's, on the items both answered."""

    subtask: Subtask
    difference: float
    low: float
    high: float
    p_value: float
    adjusted_p: float
    n: int
    blind: bool

    @property
    def word(self) -> str:
        """worse, better, stable, or unsure; blind where neither model could testify."""
        if self.adjusted_p <= 1 - LEVEL and (self.high < 0 or self.low > 0):
            return "worse" if self.high < 0 else "better"
        if self.blind:
            return "blind"
        return "stable" if self.low > -MARGIN and self.high < MARGIN else "unsure"


def scores(items: Sequence[Item], first: Floats, seed: int = 0) -> list[Score]:
    """A score for each sub-task that `items` hold. `first`: [n], the probability given to the first
    option, NaN where there is no answer.
    """
    found = []
    for subtask in SUBTASKS:
        own = [i for i, item in enumerate(items) if item.subtask == subtask]
        if own:
            found.append(_score(subtask, [items[i] for i in own], first[own], seed))
    return found


def changes(items: Sequence[Item], one: Floats, other: Floats, seed: int = 0) -> list[Change]:
    """The change from `one` to `other` ([n] each, as in `scores`) in each sub-task."""
    raw: list[tuple[Subtask, float, float, float, float, int, bool]] = []
    for subtask in SUBTASKS:
        own = [
            i
            for i, item in enumerate(items)
            if item.subtask == subtask and not np.isnan(one[i] + other[i])
        ]
        if not own:
            continue
        asked = [items[i] for i in own]
        before, after = right(asked, one[own]), right(asked, other[own])
        low, high = _interval(asked, after - before, seed)
        p = mcnemar(int((before > after).sum()), int((after > before).sum()))
        blind = all(_score(subtask, asked, each[own], seed).blind for each in (one, other))
        raw.append((subtask, float((after - before).mean()), low, high, p, len(own), blind))
    adjusted = holm([row[4] for row in raw])
    return [
        Change(subtask, difference, low, high, p, q, n, blind)
        for (subtask, difference, low, high, p, n, blind), q in zip(raw, adjusted, strict=True)
    ]


def right(items: Sequence[Item], first: Floats) -> Floats:
    """1 where the right option has the greater probability, 0 where the other, 0.5 where equal."""
    gold = _of_gold(items, first)
    return np.where(np.isnan(gold), np.nan, (np.sign(gold - 0.5) + 1) / 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979), in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, most = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = most
    return adjusted


def _score(subtask: Subtask, items: Sequence[Item], first: Floats, seed: int) -> Score:
    known = ~np.isnan(first)
    kept = [item for item, there in zip(items, known, strict=True) if there]
    missing = len(items) - len(kept)
    if not kept:
        nan = float("nan")
        return Score(subtask, nan, 0.0, 1.0, CHANCE, True, nan, nan, nan, 0, missing)
    gold, was_right = _of_gold(kept, first[known]), right(kept, first[known])
    low, high = _interval(kept, was_right, seed)
    quads: dict[str, list[bool]] = {}
    for item, one in zip(kept, was_right, strict=True):
        quads.setdefault(item.quad, []).append(bool(one > 0.5))
    whole = [all(row) for row in quads.values() if len(row) == 4]
    return Score(
        subtask,
        float(was_right.mean()),
        low,
        high,
        CHANCE,
        low <= CHANCE <= high,
        float(((1 - gold) ** 2).mean()),
        _calibration(kept, first[known]),
        float(np.mean(whole)) if whole else float("nan"),
        len(kept),
        missing,
    )


def _of_gold(items: Sequence[Item], first: Floats) -> Floats:
    golds = np.array([item.gold for item in items])
    return np.asarray(np.where(golds == 0, first, 1 - first), dtype=np.float64)


def _interval(items: Sequence[Item], values: Floats, seed: int) -> tuple[float, float]:
    return interval([item.frame for item in items], values, seed)


def interval(groups: Sequence[str], values: Floats, seed: int) -> tuple[float, float]:
    """95 % for the mean of `values` [n], drawn by group ([n] names): a percentile bootstrap; where
    all groups agree, exact (Clopper–Pearson) on as many as there are.
    """
    names = sorted(set(groups))
    place = {name: i for i, name in enumerate(names)}
    frame = np.array([place[group] for group in groups])
    sums, sizes = np.bincount(frame, values), np.bincount(frame)
    means = sums / sizes
    if np.ptp(means) == 0:
        share = (1 + means[0]) / 2 if values.min() < 0 else means[0]  # differences: from [-1, 1]
        _, low, high = clopper_pearson(round(share * len(names)), len(names), LEVEL)
        return (2 * low - 1, 2 * high - 1) if values.min() < 0 else (low, high)
    drawn = np.random.default_rng([seed, 31]).integers(len(names), size=(_RESAMPLES, len(names)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _calibration(items: Sequence[Item], first: Floats) -> float:
    """Expected calibration error of the option that each answer prefers."""
    sure = np.maximum(first, 1 - first)
    hit = right(items, first)
    bins = np.minimum(_BINS - 1, ((sure - 0.5) * 2 * _BINS).astype(int))
    error = 0.0
    for number in range(_BINS):
        own = bins == number
        if own.any():
            error += float(own.mean()) * abs(float(hit[own].mean() - sure[own].mean()))
    return error
