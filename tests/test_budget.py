"""The error budget: the chance that an unacceptable subject is ever approved is at most α."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from regent.errors import CannotRun
from regent.records import Measurement
from supervisor.budget import Budget, share
from supervisor.policy import decide
from supervisor.statistics.betting import confidence_sequence, log_wealth_above
from supervisor.statistics.exact import clopper_pearson

ALPHA = 0.2  # large, so that the simulation has errors to count


def test_shares_sum_to_alpha_and_never_beyond() -> None:
    assert sum(share(0.05, t) for t in range(1, 100_000)) == pytest.approx(0.05, rel=1e-4)
    assert sum(share(0.05, t) for t in range(1, 100_000)) < 0.05


def test_a_candidate_at_the_tolerance_is_hardly_ever_approved_over_many_rounds() -> None:
    """2,000 runs of 12 looks at n ≤ 60 (seed 1), each candidate's true loss exactly the tolerance.

    Each look stops as soon as it could approve: exactly when wealth against "loss ≥ tolerance"
    reaches 1/α_t. The exact 99.9 % lower bound on the share of runs with an approval is ≤ α = 0.2.
    """
    runs, looks = 2000, 12
    x = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], p=[0.1, 0.7, 0.2], size=(looks, runs, 60))
    approved = np.zeros((looks, runs), dtype=bool)
    for look in range(looks):
        alpha = share(ALPHA, look + 1)
        wealth = log_wealth_above(x[look], 0.1, -1, 1, 60, 1 - alpha).max(axis=1)
        approved[look] = wealth >= math.log(1 / alpha)
    for run in range(40):
        assert _decided(x[0, run], 1) == approved[0, run], "decide() and the wealth must agree"
    observed, low, high = clopper_pearson(int(approved.any(axis=0).sum()), runs, 0.999, sides=1)
    assert low <= ALPHA, f"{observed} [{low}, {high}]"
    assert observed > 0.02, "a gate that hardly errs at α = 0.2 is a wall"


def _decided(x: np.ndarray, look: int) -> bool:
    level = 1 - share(ALPHA, look)
    estimate, low, high = confidence_sequence(x, -1, 1, level, 60)
    drift = Measurement(
        instrument="diff",
        quantity="drift",
        outcome="measured",
        estimate=estimate,
        low=low,
        high=high,
        level=level,
        tolerance=0.1,
        n=60,
    )
    return decide("s", "checkpoint", [drift], "p", look, level, 1 - level).decision == "approve"


def test_a_look_redone_after_a_crash_keeps_its_number_and_spends_once(tmp_path: Path) -> None:
    first = Budget(tmp_path / "budget.json", 0.05).reserve("a")
    again = Budget(tmp_path / "budget.json", 0.05)
    assert again.reserve("a") == first
    assert again.reserve("b").number == 2
    assert again.spent == pytest.approx(0.05 * 6 / math.pi**2 * 1.25)
    assert again.looks == 2


@pytest.mark.parametrize(
    "body", ["", "{", "[]", '{"alpha": 0.05, "looks": {"a": 2}}', '{"looks": {}}']
)
def test_a_budget_that_cannot_be_read_is_never_begun_anew(tmp_path: Path, body: str) -> None:
    path = tmp_path / "budget.json"
    path.write_text(body)
    with pytest.raises(CannotRun, match="error budget"):
        Budget(path, 0.05)
    assert path.read_text() == body


def test_alpha_cannot_be_raised_in_the_middle_of_a_run(tmp_path: Path) -> None:
    Budget(tmp_path / "budget.json", 0.05).reserve("a")
    with pytest.raises(CannotRun, match=r"alpha = 0\.05, and the policy says 0\.5"):
        Budget(tmp_path / "budget.json", 0.5)


def test_a_folder_that_takes_no_file_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotRun) as refused:
        Budget(tmp_path / "file" / "budget.json", 0.05).reserve("a")
    assert "\n" not in str(refused.value)


def test_the_file_is_whole_after_every_reservation(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "budget.json", 0.05)
    for subject in "abc":
        budget.reserve(subject)
        assert subject in json.loads(budget.path.read_text())["looks"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["budget.json", "budget.lock"]
