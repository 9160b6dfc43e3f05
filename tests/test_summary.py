"""A round's summary survives a restart: nothing is lost, and nothing is counted twice.

1. What was noted is read back as it was; the ledger's row has every key from the first minute.
2. Seconds and tokens add up over the processes that worked on the round.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.summary import EXPERIMENTING, FINDING, SUPERVISING, RoundSummary
from regent.records import (
    Example,
    ExperimentPlan,
    Gap,
    Measurement,
    Message,
    Provenance,
    TaskRef,
    Trajectory,
    Verdict,
)

TASK = TaskRef(environment="reasoning", skill="gcd", level=0, seed=1)
GAP = Gap(
    environment="reasoning", skill="gcd", level=0,
    accuracy=0.4, low=0.3, high=0.5, target=0.8, n=32,
)  # fmt: skip
PLAN = ExperimentPlan(
    round=1, gap=GAP.id, environment="reasoning", skill="gcd", level=0,
    goal="try", strategy="attempt", tasks=(TASK,), seed=1,
)  # fmt: skip
TRAJECTORIES = [
    Trajectory(
        plan=PLAN.id, task=TASK, agent=f"w{i}", model="m", code="c",
        steps=(), score=score, outcome=outcome, tokens=10,
    )
    for i, (score, outcome) in enumerate([(1.0, "verified"), (1.0, "verified"), (None, "failed")])
]  # fmt: skip
EXAMPLES = [
    Example(messages=(Message(role="user", content="?"),), provenance=Provenance(source=source))
    for source in ("own_attempt", "replay", "replay")
]


def verdict(tokens: int) -> Verdict:
    spent = Measurement(instrument="diff", quantity="drift", tokens=tokens)
    return Verdict(
        subject="s", subject_kind="checkpoint", decision="quarantine", reasons=("because",),
        measurements=(spent,), policy="p", silent=("probe/x",),
    )  # fmt: skip


def worked(folder: Path) -> RoundSummary:
    """A round as the stations note it."""
    summary = RoundSummary.load(folder, 1)
    summary.note_gaps([GAP], tokens=100)
    summary.note_trajectories([PLAN], TRAJECTORIES)
    summary.note_examples(EXAMPLES)
    summary.note_verdict("batch", verdict(5), {"screens": 0.5})
    summary.note_verdict("checkpoint", verdict(70), {"diff": 2.0})
    summary.note_held_out("reasoning/gcd", {"before": 0.4, "after": 0.6, "low": 0.1, "high": 0.3})
    summary.add_notes(["one worker died"])
    for station in (*FINDING, *EXPERIMENTING, "train", *SUPERVISING, "promote"):
        summary.add_seconds(station, 1.0)
    summary.close({"champion": "origin", "batch": "b", "candidate": "c"}, "c", promoted=True)
    return summary


def test_what_was_noted_is_read_back_as_it_was(tmp_path: Path) -> None:
    before = worked(tmp_path)
    after = RoundSummary.load(tmp_path, 1)
    assert after.fields() == before.fields()
    assert after.metrics() == before.metrics()
    assert json.loads(json.dumps(after.fields())) == after.fields(), "it goes into a ledger row"


def test_the_row_says_what_the_round_did(tmp_path: Path) -> None:
    fields = worked(tmp_path).fields()
    assert fields["gaps"] == [GAP.model_dump(exclude={"parents", "n"})]
    assert (fields["experiments"], fields["trajectories"], fields["examples"]) == (1, 3, 3)
    assert fields["outcomes"] == {"verified": 2, "failed": 1}
    assert fields["examples_by_source"] == {"own_attempt": 1, "replay": 2}
    assert fields["checkpoint_verdict"]["decision"] == "quarantine"
    assert fields["checkpoint_verdict"]["silent"] == ["probe/x"]
    assert fields["notes"] == ["one worker died"]
    assert (fields["champion_before"], fields["champion"]) == ("origin", "c")
    assert fields["promoted"] is True
    assert fields["tokens"] == {"measure": 100, "experiment": 30, "supervise": 75, "total": 205}


def test_an_untouched_round_has_every_key_of_a_finished_one_but_its_end(tmp_path: Path) -> None:
    fields = RoundSummary.load(tmp_path, 2).fields()
    end = {"champion_before", "champion", "batch", "checkpoint", "promoted", "supervise_tokens"}
    assert set(worked(tmp_path).fields()) == set(fields) | end
    assert (fields["round"], fields["seconds"]["total"], fields["tokens"]["total"]) == (2, 0, 0)


def test_seconds_and_measuring_tokens_add_up_over_a_resume(tmp_path: Path) -> None:
    worked(tmp_path)
    resumed = RoundSummary.load(tmp_path, 1)
    resumed.add_seconds("train", 2.5)
    resumed.add_seconds("judge_checkpoint", 0.25)
    resumed.add_tokens(11)
    fields = RoundSummary.load(tmp_path, 1).fields()
    assert fields["stations"]["train"] == 3.5
    assert fields["seconds"] == {
        "profile": pytest.approx(len(FINDING)),
        "experiment": pytest.approx(len(EXPERIMENTING)),
        "train": 3.5,
        "supervise": 2.25,
        "total": pytest.approx(len(fields["stations"]) + 2.75),
    }
    assert fields["tokens"]["measure"] == 111


def test_a_station_that_runs_again_counts_its_work_once(tmp_path: Path) -> None:
    worked(tmp_path)
    resumed = RoundSummary.load(tmp_path, 1)
    resumed.note_trajectories([PLAN], TRAJECTORIES)
    resumed.note_examples(EXAMPLES)
    resumed.note_verdict("checkpoint", verdict(70), {})
    fields = resumed.fields()
    assert fields["tokens"] == {"measure": 100, "experiment": 30, "supervise": 75, "total": 205}
    assert (fields["trajectories"], fields["examples"]) == (3, 3)


def test_rounds_are_kept_apart_and_each_is_whole_on_disk(tmp_path: Path) -> None:
    worked(tmp_path)
    other = RoundSummary.load(tmp_path, 2)
    other.add_seconds("train", 9.0)
    assert RoundSummary.load(tmp_path, 1).fields()["stations"]["train"] == 1.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round-1.json", "round-2.json"]


def test_metrics_are_flat_figures(tmp_path: Path) -> None:
    figures = worked(tmp_path).metrics()
    assert figures["held_out/reasoning/gcd/before"] == 0.4
    assert figures["held_out/reasoning/gcd/after"] == 0.6
    assert figures["seconds/train"] == 1.0
    assert figures["tokens/total"] == 205.0
    assert all(isinstance(value, float) for value in figures.values())
