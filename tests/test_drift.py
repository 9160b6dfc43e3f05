"""The drift and its word, where the truth is known because it is simulated.

1. At exactly the tolerance `same` is said at most as often as alpha, with a look at each stage.
2. With every tested behaviour exactly at the tolerance, `different` is said at most as often as
   alpha: one of many does not get a level of its own.
3. One behaviour far beyond the tolerance decides where the contrast does not, either way it moves;
   one that was not tested never does.
4. The interval holds its estimate, and its upper end is that of every frozen behaviour.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from supervisor.diffing.behaviours import Behaviour
from supervisor.diffing.comparison import Answered, Levels, Shift, count
from supervisor.diffing.drift import NOT_SEEN, drift, word

ALPHA, STAGES = 0.05, (30, 60, 90, 120)


def frozen(kinds: Sequence[str]) -> list[Behaviour]:
    return [Behaviour(f"b{i}", f"b{i}", k, lambda f: np.zeros(0)) for i, k in enumerate(kinds)]


def counted(left: np.ndarray, right: np.ndarray, prompts: int = STAGES[-1]) -> list[Shift]:
    """Shifts of behaviours shown as `left` and `right` say ([prompts, K]); the first leads."""
    looked, many = left.shape
    said = [(str(i), [""]) for i in range(looked)]
    pool = Answered(
        said, said, np.tile(np.arange(looked), 2), np.repeat([0, 1], looked).astype(np.int64)
    )
    behaviours = frozen(["contrast"] + ["phrase"] * (many - 1))
    levels = Levels(1 - ALPHA, 1 - ALPHA, prompts)
    return count(behaviours, np.concatenate([left, right]), pool, levels)


def shows(rng: np.random.Generator, rates: Sequence[float], prompts: int) -> np.ndarray:
    return (rng.random((prompts, len(rates))) < np.array(rates)).astype(float)


def test_at_the_tolerance_same_is_said_no_more_often_than_alpha_looks_and_all() -> None:
    """One frozen contrast whose true shift is the tolerance: 500 pairs, four looks each."""
    pairs, tolerance, wrong = 500, 0.2, 0
    for number in range(pairs):
        rng = np.random.default_rng([7, number])
        left, right = shows(rng, [0.3], STAGES[-1]), shows(rng, [0.3 + tolerance], STAGES[-1])
        words = {
            word(drift(counted(left[:n], right[:n]), (), ALPHA, STAGES[-1]), tolerance)
            for n in STAGES
        }
        wrong += "same" in words
    assert wrong <= stats.binom.isf(0.001, pairs, ALPHA)


@pytest.mark.parametrize("direction", [1, -1])
def test_at_the_tolerance_different_is_said_no_more_often_than_alpha(direction: int) -> None:
    """Eight independent behaviours, each with the tolerance as its true shift: 150 pairs, and a
    look half-way. With a level of its own each, they would err far more often.
    """
    pairs, many, tolerance, wrong, each = 150, 8, 0.2, 0, 0
    rates = [0.4, 0.4 + direction * tolerance]
    tested = {f"b{i}" for i in range(1, many + 1)}
    for number in range(pairs):
        rng = np.random.default_rng([8, number])
        left = shows(rng, [0.4] + [rates[0]] * many, STAGES[-1])
        right = shows(rng, [0.6] + [rates[1]] * many, STAGES[-1])
        looks = [counted(left[:n], right[:n]) for n in (STAGES[1], STAGES[-1])]
        wrong += any(
            word(drift(s, tested, ALPHA, STAGES[-1]), tolerance) == "different" for s in looks
        )
        each += any(max(s.low, -s.high) > tolerance for s in looks[-1])
    assert wrong <= stats.binom.isf(0.001, pairs, ALPHA)
    assert each > 3 * ALPHA * pairs


@pytest.mark.parametrize(("before", "after"), [(0.05, 0.95), (0.95, 0.05)])
def test_one_behaviour_far_beyond_decides_where_the_contrast_does_not(
    before: float, after: float
) -> None:
    rng = np.random.default_rng(9)
    still = [0.5] * 9
    shifts = counted(shows(rng, [0.5, before, *still], 120), shows(rng, [0.5, after, *still], 120))
    tested = {f"b{i}" for i in range(1, 11)}
    seen = drift(shifts, tested, ALPHA, 120)
    assert word(seen, 0.3) == "different"
    assert seen.of is not None
    assert seen.of.id == "b1"
    assert 0.3 < seen.low < seen.estimate < seen.high
    assert seen.estimate == pytest.approx(abs(shifts[1].difference))
    assert word(drift(shifts, tested - {"b1"}, ALPHA, 120), 0.3) == "inconclusive"


def test_the_interval_holds_its_estimate_and_bounds_every_behaviour() -> None:
    for number in range(40):
        rng = np.random.default_rng([10, number])
        rates = rng.random((2, 6))
        shifts = counted(shows(rng, rates[0].tolist(), 60), shows(rng, rates[1].tolist(), 60), 60)
        seen = drift(shifts, {f"b{i}" for i in range(6)}, ALPHA, 60)
        assert 0 <= seen.low <= seen.estimate <= seen.high <= 1
        assert all(max(s.high, -s.low) <= seen.high + 1e-12 for s in shifts)


def test_the_contrast_alone_has_all_of_alpha() -> None:
    rng = np.random.default_rng(11)
    shifts = counted(shows(rng, [0.3, 0.3], 120), shows(rng, [0.7, 0.3], 120))
    assert drift(shifts, (), ALPHA, 120).low == shifts[0].low
    assert drift(shifts, {"b1"}, ALPHA, 120).low < shifts[0].low


def test_what_was_not_seen_is_inconclusive() -> None:
    assert word(NOT_SEEN, 0.99) == "inconclusive"
