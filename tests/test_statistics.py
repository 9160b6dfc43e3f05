"""The supervisor's statistics keep the error that they state.

Simulated with fixed seeds; each observed error is compared with its nominal level through an exact
binomial bound, so a procedure that errs more often than it says fails here. The laws include those
that are hardest for bounded means: near the ends, and paired differences that are mostly 0.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from supervisor.statistics.betting import confidence_sequence, e_value, log_wealth_above
from supervisor.statistics.exact import clopper_pearson, mcnemar, paired_difference
from supervisor.statistics.permutation import (
    contrast_weights,
    exchanges,
    max_adjusted,
    p_value,
)

REPLICATIONS = 2000
LEVEL = 0.95


def draw(law: str, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Observations in [-1, 1] and their true mean."""
    if law == "mostly ties":
        return rng.choice([-1.0, 0.0, 1.0], p=[0.04, 0.92, 0.04], size=shape), 0.0
    if law == "at the tolerance 0.1":
        return rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.7, 0.2], size=shape), 0.1
    if law == "rare loss":
        return np.where(rng.random(shape) < 0.02, -1.0, 1.0), 0.96
    if law == "rare gain":
        return np.where(rng.random(shape) < 0.02, 1.0, -1.0), -0.96
    return 2 * rng.beta(2, 6, shape) - 1, -0.5


LAWS = ["mostly ties", "at the tolerance 0.1", "rare loss", "rare gain", "smooth and skewed"]


def errs_no_more_than(errors: int, trials: int, nominal: float) -> bool:
    """The exact 99.9 % lower bound on the error does not exceed what was promised."""
    return clopper_pearson(errors, trials, 0.999, sides=1)[1] <= nominal


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("planned", [120, None])
def test_neither_bound_is_ever_wrong_more_often_than_stated(law: str, planned: int | None) -> None:
    """A bound errs at some n ≤ 120 exactly if wealth against the true mean ever reaches 1/α."""
    x, mean = draw(law, np.random.default_rng(11), (REPLICATIONS, 120))
    for values, m0 in ((x, mean), (-x, -mean)):
        wealth = log_wealth_above(values, m0, -1, 1, planned, LEVEL)
        errors = int(np.count_nonzero(wealth.max(axis=1) >= math.log(1 / (1 - LEVEL))))
        assert errs_no_more_than(errors, REPLICATIONS, 1 - LEVEL), f"{errors} of {REPLICATIONS}"


def test_the_two_bounds_together_cover_at_one_minus_twice_alpha() -> None:
    """As the interval itself says it, running intersection included; the truth is 0."""
    rng, errors, trials = np.random.default_rng(5), 0, 300
    for _ in range(trials):
        x, mean = draw("mostly ties", rng, (1, 60))
        _, low, high = confidence_sequence(x[0], -1, 1, 0.9, 60)
        errors += not low <= mean <= high
    assert errs_no_more_than(errors, trials, 0.2)


def test_bets_that_peek_at_the_outcome_would_be_caught() -> None:
    """The simulation can fail: shuffling each sample to put small values first breaks it."""
    x, mean = draw("mostly ties", np.random.default_rng(2), (REPLICATIONS, 120))
    peeked = np.sort(x, axis=1)
    wealth = log_wealth_above(peeked, mean, -1, 1, 120, LEVEL)
    errors = int(np.count_nonzero(wealth.max(axis=1) >= math.log(1 / (1 - LEVEL))))
    assert not errs_no_more_than(errors, REPLICATIONS, 1 - LEVEL)


def test_wealth_is_no_gain_on_average_when_the_mean_is_at_the_bound() -> None:
    x, mean = draw("at the tolerance 0.1", np.random.default_rng(3), (8_000, 40))
    final = np.exp(log_wealth_above(x, mean, -1, 1, 40)[:, -1])
    assert final.mean() <= 1 + 4 * final.std() / math.sqrt(len(final))


def test_a_hundred_near_ties_exclude_a_tolerance_of_an_eighth() -> None:
    """Power: n = 150, 4 % lost and 4 % gained, tolerance 0.125, at the first look's level."""
    x, _ = draw("mostly ties", np.random.default_rng(4), (100, 150))
    wins = sum(confidence_sequence(row, -1, 1, 1 - 0.0304, 150)[2] <= 0.125 for row in x)
    assert wins >= 0.9 * len(x)


def test_the_e_value_agrees_with_the_bound() -> None:
    x, _ = draw("smooth and skewed", np.random.default_rng(6), (1, 80))
    _, low, high = confidence_sequence(x[0], -1, 1, LEVEL)
    assert e_value(x[0], high - 0.02, "above", -1, 1) < 20
    assert np.exp(log_wealth_above(x[0], high, -1, 1)).max() == pytest.approx(20, rel=1e-3)
    assert np.exp(log_wealth_above(-x[0], -low, -1, 1)).max() == pytest.approx(20, rel=1e-3)
    assert e_value(x[0], low, "below", -1, 1) == pytest.approx(e_value(-x[0], -low, "above", -1, 1))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.sampled_from([None, 20, 40]))
def test_bounds_hold_the_estimate_mirror_and_tighten_with_a_lower_level(
    x: list[float], planned: int | None
) -> None:
    estimate, low, high = confidence_sequence(x, -1, 1, 0.95, planned)
    assert -1 <= low <= estimate <= high <= 1
    mirrored = confidence_sequence([-v for v in x], -1, 1, 0.95, planned)
    assert mirrored == pytest.approx((-estimate, -high, -low), abs=1e-7)
    if planned is None:
        _, tighter_low, tighter_high = confidence_sequence(x, -1, 1, 0.8)
        assert low - 1e-9 <= tighter_low
        assert tighter_high <= high + 1e-9


@pytest.mark.parametrize(
    ("x", "complaint"),
    [([], "no observations"), ([0.1, math.nan], "not finite"), ([0.2, 1.2], "outside")],
)
def test_a_spoiled_sample_is_refused(x: list[float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        confidence_sequence(x, 0, 1, 0.95)


def test_clopper_pearson_is_scipys_and_covers_by_enumeration() -> None:
    for n, k in ((20, 0), (20, 7), (20, 20)):
        theirs = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
        assert clopper_pearson(k, n, 0.95)[1:] == pytest.approx((theirs.low, theirs.high))
    bounds = [clopper_pearson(k, 25, 0.9, sides=1) for k in range(26)]
    for p in np.linspace(0.01, 0.99, 50):
        mass = stats.binom.pmf(np.arange(26), 25, p)
        assert sum(m for m, b in zip(mass, bounds, strict=True) if b[1] <= p) >= 0.9 - 1e-9
        assert sum(m for m, b in zip(mass, bounds, strict=True) if p <= b[2]) >= 0.9 - 1e-9


def test_mcnemar_rejects_a_true_null_at_most_at_its_level() -> None:
    for n in (5, 12, 30):
        mass = stats.binom.pmf(np.arange(n + 1), n, 0.5)
        assert sum(m for k, m in enumerate(mass) if mcnemar(k, n - k) <= 0.05) <= 0.05
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(1, 9) == pytest.approx(22 / 1024)


def test_tangos_interval_covers_on_average_and_dips_little() -> None:
    """Exact coverage at n = 40 over discordance rates 0.02–0.3: mean ≥ 0.945, least ≥ 0.92."""
    n, coverage = 40, []
    pairs = [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]
    bounds = np.array([paired_difference(b, c, n, 0.95)[1:] for b, c in pairs])
    counts = np.array([(b, c, n - b - c) for b, c in pairs])
    for p in (0.02, 0.05, 0.1, 0.2, 0.3):
        for q in (0.02, 0.05, 0.1, 0.2, 0.3):
            mass = stats.multinomial.pmf(counts, n, [p, q, 1 - p - q])
            inside = (bounds[:, 0] <= q - p) & (q - p <= bounds[:, 1])
            coverage.append(mass[inside].sum())
    assert np.mean(coverage) >= 0.945
    assert min(coverage) >= 0.92


def test_exchanges_stay_within_their_prompt_and_seeds_reach_the_draw() -> None:
    prompt = np.array([5, 2, 5, 5, 2, 9])
    orders = exchanges(prompt, np.random.default_rng(0), 200)
    assert (prompt[orders] == prompt).all()
    assert (np.sort(orders, axis=1) == np.arange(6)).all()
    assert (orders == exchanges(prompt, np.random.default_rng(0), 200)).all()
    assert (orders != exchanges(prompt, np.random.default_rng(1), 200)).any()
    assert len({tuple(row[[0, 2, 3]]) for row in orders}) == 6


def test_no_p_value_is_zero_and_ties_count_against_the_finding() -> None:
    assert p_value(3.0, np.zeros(99)) == 0.01
    assert p_value(0.0, np.zeros(99)) == 1.0


def test_of_several_statistics_only_the_shifted_one_is_significant() -> None:
    rng = np.random.default_rng(10)
    null = rng.normal(size=(999, 20)) * np.arange(1, 21)
    observed = np.zeros(20)
    observed[3] = 6 * 4
    adjusted = max_adjusted(observed, null)
    assert adjusted[3] <= 0.01
    assert np.delete(adjusted, 3).min() > 0.5


def test_replies_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="prompt 1 lacks"):
        contrast_weights(np.array([0, 0, 1]), np.array([0, 1, 1]))
