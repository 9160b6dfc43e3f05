"""The power calculation asks the gate's own intervals, and its draws have the stated moments."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.power import approvals, drift_differences, item_differences, surely_below
from benchmarks.report import RESULTS
from regent.config import Policy
from supervisor.capability import CapabilitySettings
from supervisor.diffing.instrument import DiffSettings
from supervisor.statistics.betting import confidence_sequence

DIFF = DiffSettings()


@pytest.mark.parametrize(("level", "drift"), [(0.9696, 0.2), (0.99992, 0.1)])
def test_the_shortcut_agrees_with_the_confidence_sequence(level: float, drift: float) -> None:
    rng = np.random.default_rng(1)
    x = drift_differences(40, 0.3, drift, 0.3, DIFF, rng)
    n = DIFF.gate_prompts
    ends = DIFF.ends(n)
    within = surely_below(x, DIFF.drift_tolerance, level, ends)
    for row, said in zip(x, within, strict=True):
        for stage, end in enumerate(ends):
            _, _, high = confidence_sequence(row[:end], -1.0, 1.0, level, n)
            assert said[stage] == (high <= DIFF.drift_tolerance)
    assert within.any()
    assert not within.all()


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_draws_have_the_stated_mean_and_correlation(rho: float) -> None:
    two = DIFF.model_copy(update={"gate_samples": 2})
    x = drift_differences(2000, 0.3, 0.2, rho, two, np.random.default_rng(2))
    single = 0.5 * 0.7 + 0.3 * 0.5 - 0.2**2  # variance of one sample's difference
    assert x.mean() == pytest.approx(0.2, abs=0.01)
    assert x.var() == pytest.approx(single * (1 + rho) / 2, rel=0.03)


def test_items_have_the_stated_change_and_discordance() -> None:
    x = item_differences(2000, -0.05, 0.2, 240, np.random.default_rng(3))
    assert x.mean() == pytest.approx(-0.05, abs=0.005)
    assert (x != 0).mean() == pytest.approx(0.2, abs=0.005)


def test_approval_stops_at_a_sure_harm_and_needs_every_stratum() -> None:
    no = np.zeros((1, 2, 3), dtype=bool)
    late = no.copy()
    late[:, :, 2] = True
    early_harm = no.copy()
    early_harm[:, 0, 0] = True
    one = late.copy()
    one[:, 1, :] = False
    assert approvals(late, no).tolist() == [True]
    assert approvals(late, early_harm).tolist() == [False]
    assert approvals(one, no).tolist() == [False]


def test_the_kept_power_calculation_is_of_the_shipped_settings() -> None:
    kept = json.loads((RESULTS / "power.json").read_text("utf-8"))["figures"]
    required = DIFF.model_dump(exclude={"concern_tolerances"})
    assert kept["diff"] == required, "run `python -m benchmarks.power` again"
    assert kept["capability"] == CapabilitySettings().model_dump()
    assert kept["alpha"] == Policy().alpha
