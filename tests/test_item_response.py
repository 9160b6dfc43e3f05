"""Item response analysis of a crowd, proven by simulation: every law's truth is known.

1. The models find the parameters that made the answers, cells missing, also by another road: scipy
   maximises the same likelihood.
2. Items at the threshold are called flat no more often than stated, flat ones often enough, whether
   or not a quad's items hang together or a checkpoint's respondents do.
3. A crowd at chance is blind, however alike its members answer; so is a small one.
4. What nobody can know is said apart: items that all or none get right.

Abilities have mean 0 and standard deviation 1 in each crowd, as discriminations are per standard
deviation of the crowd. Small crowds are noisy: the spreads stand in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from scipy.special import expit

from supervisor.reflectivity.crowd_worth import design_effect, spread
from supervisor.reflectivity.item_response import THRESHOLD, Crowd, analyse
from supervisor.statistics.latent_trait import STEEPEST, abilities, fit
from supervisor.statistics.logistic import Slopes

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Truth:
    responses: Floats
    ability: Floats
    slope: Floats
    intercept: Floats

    @property
    def quad(self) -> list[str]:
        return [f"q{i // 4}" for i in range(len(self.slope))]


def crowd(
    seed: int,
    respondents: int,
    slope: Floats,
    *,
    missing: float = 0.0,
    together: float = 0.0,
    ways: int = 1,
    alike: float = 0.0,
) -> Truth:
    """Answers of a crowd. `together`: standard deviation, in logits, of what a respondent has in
    common for the four items of a quad; `alike`: of what the `ways` of one checkpoint have in
    common on an item. Slopes are those seen through both (a logit is scaled for them).
    """
    rng = np.random.default_rng([17, seed])
    items = len(slope)
    ability = np.repeat(rng.normal(size=respondents // ways), ways)
    ability = (ability - ability.mean()) / ability.std()
    intercept = rng.normal(0, 1, items)
    quad = np.repeat(rng.normal(size=(respondents, -(-items // 4))), 4, axis=1)[:, :items]
    own = np.repeat(rng.normal(size=(respondents // ways, items)), ways, axis=0)
    seen_through = np.sqrt(1 + 0.346 * (together**2 + alike**2))
    logit = seen_through * (slope * ability[:, None] + intercept) + together * quad + alike * own
    responses = (rng.random(logit.shape) < expit(logit)).astype(np.float64)
    responses[rng.random(logit.shape) < missing] = np.nan
    return Truth(responses, ability, slope, intercept)


def mixed(seed: int, items: int) -> Floats:
    """A third flat, a third at the threshold, a third well above it."""
    rng = np.random.default_rng([18, seed])
    return rng.permutation(np.resize([0.0, THRESHOLD, 1.3], items))


def looked_at(truth: Truth, ways: int = 1) -> Crowd:
    names = [f"c{i // ways}" for i in range(len(truth.responses))]
    return analyse(truth.responses, names, truth.quad)


def at_most(errors: int, trials: int, nominal: float) -> bool:
    """Not above what was promised, up to what chance does once in a thousand."""
    return errors <= stats.binom.isf(0.001, trials, nominal)


def test_2pl_finds_the_slopes_that_made_a_large_crowds_answers() -> None:
    """n = 2,000, 40 items, a tenth of the cells missing: within ± 0.25, 0.06 off on average."""
    slope = np.linspace(-0.5, 2.0, 40)
    truth = crowd(1, 2_000, slope, missing=0.1)
    found = fit(truth.responses, common_slope=False)
    assert np.abs(found.slope - slope).max() < 0.25
    assert np.abs(found.slope - slope).mean() < 0.08
    assert np.abs(found.intercept - truth.intercept).mean() < 0.08


def test_1pl_finds_the_common_slope_and_the_difficulties() -> None:
    truth = crowd(2, 1_000, np.full(60, 1.2), missing=0.1)
    found = fit(truth.responses, common_slope=True)
    assert np.ptp(found.slope) == 0
    assert found.slope[0] == pytest.approx(1.2, abs=0.08)
    assert np.corrcoef(found.intercept, truth.intercept)[0, 1] > 0.99


def test_a_long_test_biases_no_slope() -> None:
    """1,200 items leave abilities so sure that a coarse grid, or EM stopped early, would."""
    slope = np.resize([0.4, 0.8, 1.2], 1_200)
    truth = crowd(3, 100, slope)
    varied = np.ptp(truth.responses, axis=0) > 0
    found = fit(truth.responses[:, varied], common_slope=False)
    off = found.slope - slope[varied]
    assert abs(np.median(off)) < 0.03
    assert np.corrcoef(abilities(truth.responses[:, varied], found)[0], truth.ability)[0, 1] > 0.99


def test_the_likelihood_is_the_one_that_scipy_maximises() -> None:
    """Another road: four items, the integral over ability by quadrature, maximised by BFGS."""
    responses = crowd(4, 150, np.array([0.3, 0.8, 1.2, 1.6])).responses
    patterns, times = np.unique(responses, axis=0, return_counts=True)

    theta = np.linspace(-8, 8, 801)

    def minus_log_likelihood(x: Floats) -> float:
        p = expit(x[:4] * theta[:, None] + x[4:])
        by_pattern = np.where(patterns[:, None] == 1, p, 1 - p).prod(2) * stats.norm.pdf(theta)
        return -float(times @ np.log(integrate.trapezoid(by_pattern, theta)))

    theirs = optimize.minimize(minus_log_likelihood, np.repeat([1.0, 0.0], 4), tol=1e-4)
    ours = fit(responses, common_slope=False)
    assert ours.log_likelihood == pytest.approx(-theirs.fun, abs=0.05)
    assert minus_log_likelihood(np.r_[ours.slope, ours.intercept]) == pytest.approx(
        theirs.fun, abs=0.05
    )


def test_a_bound_is_the_slope_that_the_likelihood_ratio_just_refuses() -> None:
    """Another road for one row: scipy profiles the intercept."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(1, 60))
    y = (rng.random((1, 60)) < expit(0.7 * x)).astype(np.float64)
    found = Slopes(x, y, STEEPEST)
    low, high = found.bounds(1.645)

    def profile(slope: float) -> float:
        def minus(intercept: float) -> float:
            p = expit(slope * x + intercept)
            return -float(np.log(np.where(y == 1, p, 1 - p)).sum())

        return float(optimize.minimize_scalar(minus).fun)

    best = optimize.minimize_scalar(profile, bounds=(-5, 5), method="bounded")
    assert found.slope[0] == pytest.approx(best.x, abs=1e-3)
    for bound in (low[0], high[0]):
        assert 2 * (profile(bound) - best.fun) == pytest.approx(1.645**2, rel=1e-3)
    assert found.roots(float(high[0]))[0] == pytest.approx(-1.645, rel=1e-3)


def test_an_item_that_parts_the_crowd_perfectly_has_no_upper_bound() -> None:
    x = np.linspace(-1, 1, 20)[None]
    found = Slopes(x, (x > 0).astype(np.float64), STEEPEST)
    low, high = found.bounds(1.645)
    assert np.isinf(high[0])
    assert 0 < low[0] < np.inf


@dataclass
class Tally:
    """Over crowds of items a third flat, a third at the threshold, a third above."""

    items: int = 0
    flat: int = 0
    named: int = 0
    wrong: int = 0
    at: int = 0
    below: int = 0
    covered: int = 0

    def count(self, truth: Truth, found: Crowd) -> None:
        for one, slope in zip(found.items, truth.slope, strict=True):
            if np.isnan(one.high):
                continue  # all or none got it right
            self.items += 1
            self.named += one.word == "flat"
            self.wrong += one.word == "flat" and slope >= THRESHOLD
            self.flat += slope == 0
            self.at += slope == THRESHOLD
            self.below += slope == THRESHOLD and one.high < THRESHOLD
            self.covered += one.low <= slope <= one.high

    @property
    def power(self) -> float:
        return (self.named - self.wrong) / self.flat

    @property
    def keeps_its_word(self) -> bool:
        """Of the items named at most 5 % are not flat, and a bound errs in 5 %: 5.5 % here, as the
        abilities are themselves estimated.
        """
        return at_most(self.wrong, self.named, 0.05) and at_most(self.below, self.at, 0.055)


@pytest.mark.parametrize(
    ("respondents", "together", "power"),
    [(60, 0.0, (0.2, 0.5)), (60, 1.0, (0.2, 0.5)), (100, 0.0, (0.5, 1.0))],
)
def test_items_at_the_threshold_are_seldom_called_flat_and_flat_ones_often(
    respondents: int, together: float, power: tuple[float, float]
) -> None:
    """15 crowds, 120 items each, a twentieth of the cells missing."""
    told = Tally()
    for seed in range(100, 115):
        slope = mixed(seed, 120)
        truth = crowd(seed, respondents, slope, missing=0.05, together=together)
        told.count(truth, looked_at(truth))
    assert told.keeps_its_word
    assert power[0] <= told.power <= power[1]
    assert told.covered >= 0.86 * told.items  # each bound at 95 %: both, at about 90 %


def test_where_every_item_is_at_the_threshold_hardly_a_crowd_names_any() -> None:
    """50 crowds of 40, 60 items: then any item named is false."""
    found = [looked_at(crowd(seed, 40, np.full(60, THRESHOLD))) for seed in range(50)]
    assert all(not one.blind for one in found)
    assert at_most(sum(any(i.word == "flat" for i in one.items) for one in found), 50, 0.05)


def test_respondents_of_one_checkpoint_count_for_less_than_strangers() -> None:
    """80 respondents, five a checkpoint, who share much beyond ability; 10 crowds of 120 items.
    Passed off as strangers they would name what is not flat.
    """
    honest, naive = Tally(), Tally()
    for seed in range(100, 110):
        truth = crowd(seed, 80, mixed(seed, 120), ways=5, alike=1.5)
        found = looked_at(truth, ways=5)
        assert 30 < found.effective < 60
        honest.count(truth, found)
        naive.count(truth, looked_at(truth))
    assert honest.keeps_its_word
    assert not naive.keeps_its_word


def test_respondents_who_answer_alike_are_worth_one() -> None:
    rng = np.random.default_rng(6)
    off = rng.normal(size=(20, 300))
    checkpoint = np.repeat(np.arange(20), 4)
    assert design_effect(np.repeat(off, 4, axis=0), checkpoint) == pytest.approx(4)
    assert design_effect(rng.normal(size=(80, 300)), checkpoint) == pytest.approx(1, abs=0.05)
    assert design_effect(off, np.arange(20)) == 1


def test_aic_tells_equal_slopes_from_unequal_ones() -> None:
    """60 respondents, 120 items, 10 crowds of each."""
    for slope, better in ((np.full(120, 1.0), "1PL"), (mixed(1, 120), "2PL")):
        told = [crowd(seed, 60, slope).responses for seed in range(10)]
        varied = [one[:, np.ptp(one, axis=0) > 0] for one in told]
        aics = [
            (fit(one, common_slope=True).aic, fit(one, common_slope=False).aic) for one in varied
        ]
        assert all((one <= two) == (better == "1PL") for one, two in aics)


def test_a_crowd_at_chance_is_blind_in_95_of_100() -> None:
    """Coins that differ by item, quads that hang together, checkpoints whose ways answer alike."""
    seeing = 0
    for seed in range(200):
        rng = np.random.default_rng([19, seed])
        quads = np.repeat(rng.normal(size=(6, 5, 20)), 4, axis=2)  # checkpoint, way, quad
        own = rng.normal(size=(6, 1, 80))
        logit = rng.normal(size=80) + 0.7 * quads + 1.5 * own
        responses = (rng.random(logit.shape) < expit(logit)).astype(np.float64).reshape(30, 80)
        group = np.arange(80) // 4
        p, _ = spread(responses, np.repeat(np.arange(6), 5), group, seed)
        seeing += p <= 0.05
    assert at_most(seeing, 200, 0.05)
    coins = np.random.default_rng(7).integers(0, 2, (40, 100)).astype(np.float64)
    found = analyse(coins, [f"c{i}" for i in range(40)], [f"q{i // 4}" for i in range(100)])
    assert "no more than coins" in found.blind
    assert {one.word for one in found.items} == {"unsure"}
    assert all(np.isnan(one.discrimination) for one in found.items)


def test_the_test_against_coins_could_fail() -> None:
    """Exchanging respondents rather than checkpoints would see ability where ways only agree."""
    seeing = 0
    for seed in range(50):
        rng = np.random.default_rng([20, seed])
        responses = np.repeat(rng.integers(0, 2, (6, 80)), 5, axis=0).astype(np.float64)
        seeing += spread(responses, np.arange(30), np.arange(80) // 4, seed)[0] <= 0.05
    assert not at_most(seeing, 50, 0.05)


def test_small_crowds_and_crowds_of_copies_are_blind_and_say_why() -> None:
    able = crowd(8, 60, np.full(80, 1.5))
    few = analyse(able.responses[:12], [f"c{i}" for i in range(12)], able.quad)
    assert "too few" in few.blind
    two = analyse(able.responses, [f"c{i % 2}" for i in range(60)], able.quad)
    assert "60 respondents of 2 checkpoints" in two.blind
    copies = np.repeat(able.responses[:12], 5, axis=0)
    same = analyse(copies, [f"c{i // 5}" for i in range(60)], able.quad)
    assert "60 respondents are worth 12" in same.blind


def test_items_that_all_or_none_get_right_are_said_apart() -> None:
    truth = crowd(9, 60, np.full(80, 1.2))
    responses = truth.responses.copy()
    responses[:, 0], responses[:, 1], responses[:, 2] = 1, 0, np.nan
    found = analyse(responses, [f"c{i}" for i in range(60)], truth.quad)
    assert [one.word for one in found.items[:3]] == ["all right", "none right", "unanswered"]
    assert all(np.isnan(one.discrimination) for one in found.items[:3])
    assert not np.isnan(found.items[3].discrimination)


def test_an_item_whose_gold_is_wrong_is_flat_with_a_slope_below_zero() -> None:
    truth = crowd(10, 100, np.full(80, 1.2))
    responses = truth.responses.copy()
    responses[:, 5] = 1 - responses[:, 5]
    one = analyse(responses, [f"c{i}" for i in range(100)], truth.quad).items[5]
    assert one.word == "flat"
    assert one.high < 0
    assert one.item_rest < 0


def test_an_item_copied_into_its_quad_does_not_discriminate_by_itself() -> None:
    """Four copies of one flat item agree perfectly with each other, and with nothing else."""
    truth = crowd(11, 100, np.r_[np.zeros(4), np.full(76, 1.2)])
    responses = truth.responses.copy()
    responses[:, 1:4] = responses[:, :1]
    for one in analyse(responses, [f"c{i}" for i in range(100)], truth.quad).items[:4]:
        assert one.high < 1
        assert abs(one.item_rest) < 0.3


@settings(max_examples=5, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_respondents_and_items_does_not_matter(shuffle: Any) -> None:
    truth = crowd(12, 40, mixed(1, 40))
    rows, columns = list(range(40)), list(range(40))
    shuffle.shuffle(rows)
    shuffle.shuffle(columns)
    one = looked_at(truth)
    names = [f"c{i}" for i in rows]
    other = analyse(truth.responses[rows][:, columns], names, [truth.quad[i] for i in columns])
    for place, i in enumerate(columns):
        assert other.items[place].discrimination == pytest.approx(
            one.items[i].discrimination, abs=1e-3, nan_ok=True
        )


def test_the_seed_reaches_the_exchanges() -> None:
    responses = crowd(13, 30, np.full(40, 0.15)).responses
    quad = np.arange(40) // 4
    found = [spread(responses, np.arange(30), quad, seed)[0] for seed in (0, 0, 1, 2, 3)]
    assert found[0] == found[1]
    assert len(set(found)) > 1


@pytest.mark.parametrize(
    ("responses", "complaint"),
    [
        (np.full((30, 4), 0.5), "1, 0 or NaN"),
        (np.ones((29, 4)), "30 respondents"),
    ],
)
def test_spoiled_responses_are_refused(responses: Floats, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        analyse(responses, [f"c{i}" for i in range(30)], ["q"] * 4)
    with pytest.raises(ValueError, match="item 1: all or none"):
        fit(np.array([[1.0, 1.0], [0.0, 1.0]]), common_slope=True)
