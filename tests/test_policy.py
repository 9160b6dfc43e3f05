"""decide() approves only what every required measurement clears, and says why in plain words.

Invariants: order does not matter; making any measurement worse never makes the decision better;
whatever could not be judged never approves.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regent.records import Disposition, Measurement, Verdict
from supervisor.policy import VETO_ALPHA, changed, decide, relax_blind, veto_level
from supervisor.statistics.exact import clopper_pearson

RANK = {"veto": 0, "quarantine": 1, "approve": 2}
LEVEL = 0.97


def drift(low: float = 0.05, high: float = 0.2, **fields: object) -> Measurement:
    """A required, sampled measurement of harm above 0.3, well within unless told otherwise."""
    given_fields: dict[str, object] = {
        "instrument": "diff",
        "quantity": "drift",
        "reference": "parent",
        "outcome": "measured",
        "estimate": (low + high) / 2,
        "low": low,
        "high": high,
        "level": LEVEL,
        "tolerance": 0.3,
        "n": 100,
    }
    return Measurement.model_validate(given_fields | fields)


def judged(*measurements: Measurement, level: float = LEVEL) -> Verdict:
    return decide("s", "checkpoint", measurements, "p", 1, level, 1 - level)


def test_all_required_within_tolerance_is_approved_with_its_figures() -> None:
    verdict = judged(drift(), drift(reference="origin"))
    assert verdict.decision == "approve"
    assert verdict.reasons[1] == (
        "diff: drift against parent is 0.12 [0.05, 0.20], within the tolerance 0.30 (n = 100)."
    )


def test_a_sure_harm_is_vetoed_with_its_figures() -> None:
    verdict = judged(drift(0.31, 0.55, estimate=0.42, level=0.99), drift(reference="origin"))
    assert verdict.decision == "veto"
    assert verdict.reasons == (
        "diff: drift against parent is 0.42 [0.31, 0.55], beyond the tolerance 0.30 (n = 100).",
    )


def test_harm_below_is_read_the_other_way_round() -> None:
    fall = drift(-0.05, 0.02, tolerance=-0.1, harm="below", level=0.99)
    assert judged(fall).decision == "approve"
    assert judged(changed(fall, low=-0.3, high=-0.2, estimate=-0.25)).decision == "veto"
    assert judged(changed(fall, low=-0.12)).decision == "quarantine"


def test_nothing_measured_and_nothing_required_is_quarantined() -> None:
    assert judged().decision == "quarantine"
    assert judged(drift(required=False)).decision == "quarantine"


@pytest.mark.parametrize(
    ("spoiled", "reason"),
    [
        (drift(0.2, 0.4), "not surely within the tolerance"),
        (drift(outcome="failed", detail="engine died\nat once"), "failed (engine died at once)"),
        (drift(outcome="not_run"), "did not run"),
        (drift(outcome="blind", detail="at chance"), "could not have seen the effect (at chance)"),
        (drift(n=0), "no sample size"),
        (drift(level=None), "level is None"),
        (drift(level=0.9), "only at confidence 0.9; this look needs 0.97"),
        (drift(estimate=math.nan), "not finite"),
        (drift(high=math.inf), "not finite"),
        (drift(high=-math.inf), "not finite"),
        (drift(0.25, 0.1), "upside down"),
    ],
)
def test_what_could_not_be_judged_is_quarantined(spoiled: Measurement, reason: str) -> None:
    verdict = judged(drift(reference="origin"), spoiled)
    assert verdict.decision == "quarantine"
    assert reason in " ".join(verdict.reasons)
    assert Verdict.from_canonical(verdict.canonical()).id == verdict.id


def test_an_exact_harm_vetoes_at_once_whatever_else_was_measured() -> None:
    duplicates = drift(
        0.5, 0.5, instrument="screens", quantity="duplicates", exact=True, level=None
    )
    crowd = [drift(quantity=f"behaviour {i}", required=False) for i in range(200)]
    assert judged(duplicates, *crowd).decision == "veto"
    assert judged(drift(outcome="failed"), duplicates).decision == "veto"


def test_a_look_that_spends_nothing_approves_on_exact_measurements_only() -> None:
    exact = drift(0.1, 0.1, exact=True, level=None)
    assert judged(exact, level=1.0).decision == "approve"
    assert judged(exact, drift(reference="origin"), level=1.0).decision == "quarantine"


def test_veto_only_silence_is_said_and_does_not_block() -> None:
    silent = [
        drift(quantity="probe", required=False, outcome="blind"),
        drift(quantity="grounding", required=False, outcome="not_run"),
    ]
    verdict = judged(drift(), *silent)
    assert verdict.decision == "approve"
    assert verdict.silent == ("diff/grounding@parent", "diff/probe@parent")
    assert "Did not testify: diff/grounding@parent, diff/probe@parent." in verdict.reasons


def test_a_veto_only_failure_still_blocks() -> None:
    assert judged(drift(), drift(required=False, outcome="failed")).decision == "quarantine"


def test_a_batch_of_which_every_example_is_dropped_is_not_approved() -> None:
    gone = [Disposition(example="e", disposition="drop")]
    kept = [*gone, Disposition(example="f", disposition="keep")]
    exact = [drift(0.1, 0.1, exact=True)]
    assert decide("s", "batch", exact, "p", 0, 1.0, 0.0, gone).decision == "quarantine"
    assert decide("s", "batch", exact, "p", 0, 1.0, 0.0, kept).decision == "approve"


def test_many_lax_measurements_veto_together_or_not_at_all() -> None:
    """Four at 0.97 risk 0.12; two agreeing could be chance at 0.06, three cannot at 0.05."""
    harm = [drift(0.4, 0.6, reference=r, quantity=q) for q in "ab" for r in ("parent", "origin")]
    fine = [changed(m, low=0.0, high=0.1, estimate=0.05) for m in harm]
    assert judged(*harm[:3], fine[3]).decision == "veto"
    assert judged(*harm[:2], *fine[2:]).decision == "quarantine"
    assert "too many were measured to veto on it alone" in judged(*harm[:2], *fine[2:]).reasons[0]


def test_a_strict_veto_only_measurement_vetoes_alone_in_a_crowd() -> None:
    crowd = [
        drift(quantity=f"behaviour {i}", required=False, level=veto_level(80)) for i in range(79)
    ]
    harm = drift(0.4, 0.6, quantity="behaviour 79", required=False, level=veto_level(80))
    assert judged(drift(), *crowd, harm).decision == "veto"


@pytest.mark.parametrize(("count", "level"), [(1, 0.97), (4, 0.97), (20, 0.97), (30, 0.999)])
def test_a_harmless_subject_is_vetoed_at_most_at_the_stated_rate(count: int, level: float) -> None:
    """2,000 subjects, each measurement wrongly harmful with probability 1 − level, independently or
    all at once (the worst cases differ); seed 0; exact 99.9 % bound."""
    rng, trials = np.random.default_rng(0), 2000
    for together in (True, False):
        draws = rng.random((trials, 1 if together else count))
        harmful = np.broadcast_to(draws < 1 - level, (trials, count))
        vetoes = sum(
            _decision_for(int(row.sum()), count, level) == "veto" for row in harmful if row.any()
        )
        assert clopper_pearson(vetoes, trials, 0.999, sides=1)[1] <= VETO_ALPHA


def _decision_for(harms: int, count: int, level: float) -> str:
    found = [
        drift(0.4, 0.6, quantity=str(i), level=level)
        if i < harms
        else drift(quantity=str(i), level=level)
        for i in range(count)
    ]
    return judged(*found).decision


def test_blind_on_the_origin_is_relaxed_only_beside_another_witness() -> None:
    blind = [drift(quantity="probe", reference=r, outcome="blind") for r in ("parent", "origin")]
    seeing = [drift(), drift(reference="origin")]
    relaxed = relax_blind([*blind, *seeing], "veto_only")
    assert [m.required for m in relaxed] == [False, False, True, True]
    assert judged(*relaxed).decision == "approve"
    assert judged(*relax_blind([*blind, *seeing], "quarantine")).decision == "quarantine"
    assert judged(*relax_blind([*blind, drift()], "veto_only")).decision == "quarantine"
    only_parent = [blind[0], *seeing]
    assert judged(*relax_blind(only_parent, "veto_only")).decision == "quarantine"


bounds = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


@st.composite
def some_measurement(draw: st.DrawFn) -> Measurement:
    low, high = draw(bounds)
    return drift(
        low,
        high,
        instrument=draw(st.sampled_from(["diff", "capability"])),
        quantity=draw(st.sampled_from(["a", "b"])),
        reference=draw(st.sampled_from(["parent", "origin"])),
        outcome=draw(st.sampled_from(["measured"] * 5 + ["blind", "failed", "not_run"])),
        level=draw(st.sampled_from([0.97, 0.99, 0.9999])),
        exact=draw(st.booleans()),
        required=draw(st.booleans()),
        n=draw(st.sampled_from([0, 50, 50, 50])),
    )


some = st.lists(some_measurement(), min_size=1, max_size=6)


@given(some, st.randoms())
def test_order_does_not_matter(found: list[Measurement], shuffle: object) -> None:
    shuffled = list(found)
    shuffle.shuffle(shuffled)  # type: ignore[attr-defined]
    assert judged(*shuffled).id == judged(*found).id


@given(some, st.integers(0, 5), st.floats(0, 1), st.floats(0, 1))
def test_a_worse_measurement_never_betters_the_decision(
    found: list[Measurement], which: int, up: float, down: float
) -> None:
    which %= len(found)
    m = found[which]
    if m.low is None or m.high is None:
        return
    worse = changed(m, low=m.low + up * (1 - m.low), high=m.high + up * (1 - m.high))
    after = [*found[:which], worse, *found[which + 1 :]]
    assert RANK[judged(*after).decision] <= RANK[judged(*found).decision]


@given(some, st.integers(0, 5), st.sampled_from(["failed", "not_run", "blind"]))
def test_losing_a_required_measurement_never_approves(
    found: list[Measurement], which: int, outcome: str
) -> None:
    lost = changed(found[which % len(found)], outcome=outcome, required=True)
    after = [lost, *(m for i, m in enumerate(found) if i != which % len(found))]
    assert judged(*after).decision != "approve"


@given(some)
def test_an_approval_rests_on_every_required_measurement(found: list[Measurement]) -> None:
    verdict = judged(*found)
    if verdict.decision == "approve":
        required = [m for m in verdict.measurements if m.required]
        assert required
        assert all(m.excludes_tolerance for m in required)
        assert all(m.outcome != "failed" for m in verdict.measurements)
