"""Inference on counts at a sample size fixed beforehand: proportions and paired proportions.

- `clopper_pearson`: coverage never below nominal (Clopper & Pearson 1934).
- `mcnemar`: exact; conditional on the discordant pairs (McNemar 1947).
- `paired_difference`: Tango's score interval (1998). It is asymptotic: coverage is about nominal on
  average and dips below at places (tests/test_statistics.py enumerates it), so it is for
  reports. Where an approval rests on the bound use `betting.confidence_sequence`, which never dips.

Does not cover: sampling until something is seen; these hold at one planned n only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from scipy import stats


def clopper_pearson(
    successes: int, n: int, level: float, sides: Literal[1, 2] = 2
) -> tuple[float, float, float]:
    """Proportion with its exact interval: (estimate, low, high).

    With `sides` 2 the interval covers at `level`; with 1 each bound by itself does.
    Raises ValueError unless 0 ≤ successes ≤ n, n ≥ 1 and 0 < level < 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: need 0 ≤ successes ≤ n and n ≥ 1")
    tail = _tail(level, sides)
    low = 0.0 if successes == 0 else float(stats.beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(stats.beta.isf(tail, successes + 1, n - successes))
    return successes / n, low, high


def mcnemar(left_only: int, right_only: int) -> float:
    """Exact two-sided p-value that left and right succeed equally often.

    `left_only`, `right_only`: items on which just that side succeeded (the discordant pairs).
    1.0 where none is discordant.
    Raises ValueError on a negative count.
    """
    if left_only < 0 or right_only < 0:
        raise ValueError(f"counts cannot be negative: {left_only}, {right_only}")
    discordant = left_only + right_only
    if discordant == 0:
        return 1.0
    return float(stats.binomtest(left_only, discordant, 0.5).pvalue)


def paired_difference(
    left_only: int, right_only: int, n: int, level: float, sides: Literal[1, 2] = 2
) -> tuple[float, float, float]:
    """Right's success rate minus left's on the same `n` items, Tango's score interval.

    Returns (estimate, low, high) in [-1, 1]; `sides` as in `clopper_pearson`.
    Raises ValueError on counts that do not fit into n.
    """
    if min(left_only, right_only) < 0 or n < 1 or left_only + right_only > n:
        raise ValueError(f"{left_only} + {right_only} discordant items do not fit into n = {n}")
    z = float(stats.norm.isf(_tail(level, sides)))
    estimate = (right_only - left_only) / n

    def refused(delta: float) -> bool:
        return abs(_score(left_only, right_only, n, delta)) > z

    return estimate, _edge(estimate, -1.0, refused), _edge(estimate, 1.0, refused)


def _tail(level: float, sides: Literal[1, 2]) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), not {level}")
    return (1 - level) / sides


def _score(left_only: int, right_only: int, n: int, delta: float) -> float:
    """Tango's statistic for difference `delta`, with the discordance at its constrained optimum."""
    a = 2.0 * n
    b = -left_only - right_only + (2 * n - right_only + left_only) * delta
    c = -left_only * delta * (1 - delta)
    q = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = n * (2 * q + delta * (1 - delta))
    distance = right_only - left_only - n * delta
    if variance <= 1e-15:
        return 0.0 if abs(distance) < 1e-12 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def _edge(inside: float, outside: float, refused: Callable[[float], bool]) -> float:
    """Where `refused` turns true between `inside` and `outside`, by bisection, rounded outward."""
    if not refused(outside):
        return outside
    for _ in range(60):
        middle = (inside + outside) / 2
        if refused(middle):
            outside = middle
        else:
            inside = middle
    return outside
