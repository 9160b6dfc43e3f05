"""`regent status` agrees with the run's ledger, and the closing screen says it plainly.

The ledgers are real ones, made in a temporary folder; the screen is rendered at 80 columns.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agents.closing import closing
from agents.status import show, status
from agents.summary import RoundSummary
from regent.config import RunConfig, to_yaml
from regent.errors import CannotRun
from regent.records import Checkpoint, Decision, Example, Message, Promotion, Verdict
from supervisor.record.folder import RunFolder, open_run
from supervisor.record.ledger import Ledger
from supervisor.record.vault import build_batch

CONTRACT = {"state", "round", "champion", "rounds", "budget", "canaries"}
A_ROUND = {
    "gaps",
    "experiments",
    "examples",
    "batch_verdict",
    "checkpoint_verdict",
    "held_out",
    "seconds",
    "tokens",
}
RISES = {"before": 0.25, "after": 0.75, "low": 0.31, "high": 0.66, "n": 48}
WAVERS = {"before": 0.5, "after": 0.5625, "low": -0.12, "high": 0.24, "n": 48}
REASON = "diff: drift against parent is 0.31 [0.22, 0.40], not surely within the tolerance 0.35."


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = tmp_path / "run"
    (folder / "store").mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(RunConfig(folder=folder)))
    Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", folder / "supervisor")
    write_state(folder, state="finished", round=2, station="promote", champion="")
    return open_run(folder)


def write_state(folder: Path, **fields: Any) -> None:
    (folder / "state.json").write_text(json.dumps({"pid": os.getpid(), **fields}))


def judge(
    run: RunFolder, decision: Decision, look: int, canary: bool = False, alpha: float = 0.01
) -> Verdict:
    message = Message(role="assistant", content=f"answer {look}")
    batch, data = build_batch([Example(messages=(message,))], look, [], canary)
    run.vault.deposit(batch, data)
    verdict = Verdict(
        subject=batch.id,
        subject_kind="batch",
        decision=decision,
        reasons=(REASON,),
        measurements=(),
        policy="policy",
        look=look,
        alpha_spent=alpha,
        silent=("diff/values@origin",),
    )
    run.ledger.append("verdict", verdict)
    return verdict


def gap() -> dict[str, Any]:
    node = {"environment": "reasoning", "skill": "chain_sum", "level": 1}
    return {**node, "accuracy": 0.25, "low": 0.1, "high": 0.4, "target": 0.8}


def end_round(run: RunFolder, verdict: Verdict, number: int = 1) -> None:
    """A round's row, by the loop's own summary."""
    summary = RoundSummary.load(run.path / "rounds", number)
    summary.kept |= {"gaps": [gap()], "experiments": 4, "trajectories": 32}
    summary.kept |= {"outcomes": {"verified": 20, "refuted": 12}}
    summary.kept |= {"examples": 60, "examples_by_source": {"own_attempt": 40, "world_answer": 20}}
    for station, seconds in {
        "profile": 20,
        "experiment": 40,
        "train": 60,
        "judge_batch": 80,
    }.items():
        summary.add_seconds(station, seconds)
    summary.add_tokens(1000)
    summary.note_verdict("batch", verdict, {"screens": 1.5, "diff": 42.0})
    summary.note_held_out("reasoning/chain_sum", RISES)
    summary.note_held_out("mechanism/pendulum", WAVERS)
    summary.add_notes(["training began anew"])
    summary.close({"champion": "c0"}, "c1", True)
    run.ledger.append("round", summary.fields(), subject=f"round-{number}")


def read(folder: Path, width: int = 80) -> str:
    """The screen's text with its line breaks taken out."""
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(show(status(folder)))
    return " ".join(console.export_text().split())


def test_the_json_keeps_the_contract_and_survives_json(run: RunFolder) -> None:
    end_round(run, judge(run, "approve", 1))
    said = json.loads(json.dumps(status(run.path)))
    assert said.keys() >= CONTRACT
    (one,) = said["rounds"]
    assert one.keys() >= A_ROUND
    assert one["held_out"]["reasoning/chain_sum"].items() >= RISES.items()
    assert one["seconds"] == {
        "profile": 20, "experiment": 40, "train": 60, "supervise": 80, "total": 200,
    }  # fmt: skip
    assert one["batch_verdict"]["decision"] == "approve"
    assert said["state"] == "finished"


def test_the_budget_counts_each_look_once_and_a_look_that_was_cut_off(run: RunFolder) -> None:
    judge(run, "quarantine", 1, alpha=0.03)
    judge(run, "approve", 2, alpha=0.008)
    assert status(run.path)["budget"] == {"alpha": 0.05, "spent": pytest.approx(0.038)}
    write_state(run.path, state="finished", spent=0.041)
    assert status(run.path)["budget"]["spent"] == pytest.approx(0.041)


def test_a_canary_that_was_let_through_is_on_the_screen(run: RunFolder) -> None:
    for look, (harm, caught) in enumerate(
        {"repeated rows": True, "planted sentence": False}.items()
    ):
        verdict = judge(run, "quarantine", look, canary=True)
        row = {"batch": verdict.subject, "kind_of_harm": harm, "round": 1, "caught": caught}
        run.ledger.append("canary", row | {"verdict": verdict.id}, subject=verdict.subject)
    assert status(run.path)["canaries"] == {
        "planted": 2,
        "caught": 1,
        "missed": ["planted sentence"],
    }
    assert "2 known-bad batches planted, 1 caught; 1 MISSED (planted sentence)" in read(run.path)


def test_only_a_gain_whose_interval_excludes_zero_is_marked(run: RunFolder) -> None:
    end_round(run, judge(run, "approve", 1))
    text = read(run.path)
    assert "▲ reasoning/chain_sum 25% [14, 40] 75% [60, 86] +50 [+31, +66]" in text
    assert "· mechanism/pendulum 50% [35, 65] 56% [41, 71] +6 [-12, +24]" in text
    assert "48 items a skill" in text


def test_the_screen_tells_a_round_from_its_gaps_to_its_costs(run: RunFolder) -> None:
    end_round(run, judge(run, "approve", 1))
    text = read(run.path)
    for claim in (
        "1: chain_sum level 1 (25% right [10, 40])",
        "4 run, 32 tasks: 12 refuted, 20 verified",
        "60 collected 40 own attempts that the environment verified 20 answers of the world",
        "✓ approved",
        "→ crowned",
        REASON,
        "3:20: finding gaps 0:20 (10%) · experimenting 0:40 (20%) · training 1:00 (30%) · "
        "supervising 1:20 (40%)",
        "diff 42.0 s · screens 1.5 s",
        "- did not testify: diff/values",
        "silent diff/values (too weak here to see an effect: no harm was ruled out)",
        "note training began anew",
        "audit verify",
        "ui --backend-store-uri",
    ):
        assert claim in text, claim


def test_a_quarantined_batch_names_the_commands_that_decide_it(run: RunFolder) -> None:
    verdict = judge(run, "quarantine", 1)
    end_round(run, verdict)
    said = status(run.path)
    assert [item["subject"] for item in said["quarantined"]] == [verdict.subject]
    commands = said["look"]["review"]
    assert any(f"review {run.path} list" in command for command in commands)
    assert any(f"release {verdict.subject[:12]} " in command for command in commands)
    assert f"batch {verdict.subject[:12]}" in read(run.path)


def test_commands_stand_whole_on_one_line_however_narrow_the_screen(run: RunFolder) -> None:
    end_round(run, judge(run, "quarantine", 1))
    console = Console(width=40, record=True, file=io.StringIO())
    console.print(show(status(run.path)), crop=False)
    lines = [line.strip() for line in console.export_text().splitlines()]
    look = status(run.path)["look"]
    for command in (look["mlflow"], look["why"], *look["review"]):
        assert "\\" not in command
        assert command in lines


def test_a_champion_of_whom_nothing_was_judged_yet_is_just_the_origin(run: RunFolder) -> None:
    said = status(run.path) | {"champion": "a" * 64, "champion_name": "origin"}
    console = Console(width=90, record=True, file=io.StringIO())
    console.print(show(said | {"rounds": [{"round": 1, "finished": False}]}))
    assert "no successor was approved" not in console.export_text()


def test_the_champion_is_the_last_that_the_ledger_crowned(run: RunFolder) -> None:
    verdict = judge(run, "approve", 1)
    successor = Checkpoint(round=1, name="round-1-abc", digest="d" * 64)
    run.ledger.append("checkpoint", successor)
    crowned = Promotion(round=1, checkpoint=successor.id, verdict=verdict.id)
    run.ledger.append("promotion", crowned, subject=successor.id)
    write_state(run.path, state="running", champion="the one before")
    assert status(run.path)["champion"] == successor.id
    assert "champion: round-1-abc" in read(run.path)


def test_a_running_run_whose_process_is_gone_is_stopped_and_says_how_to_go_on(
    run: RunFolder,
) -> None:
    write_state(run.path, state="running", round=1, station="train")
    assert status(run.path)["state"] == "running"
    driver = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write_state(run.path, state="running", round=1, station="train", pid=driver.pid)
    assert status(run.path)["state"] == "running"
    driver.kill()
    try:
        os.waitid(os.P_PID, driver.pid, os.WEXITED | os.WNOWAIT)  # dead, and still has its number
        assert status(run.path)["state"] == "stopped"
    finally:
        driver.communicate()
    said = status(run.path)
    assert said["state"] == "stopped"
    assert f"resume {run.path}" in said["line"]


def test_a_round_under_way_shows_what_is_known_of_it(run: RunFolder) -> None:
    end_round(run, judge(run, "approve", 1))
    write_state(run.path, state="running", round=2, station="experiment")
    RoundSummary.load(run.path / "rounds", 2).note_gaps([], 500)
    said = status(run.path)
    assert [(one["round"], one["finished"]) for one in said["rounds"]] == [(1, True), (2, False)]
    assert said["rounds"][1].keys() >= A_ROUND
    assert "round 2, unfinished, at experiment" in read(run.path)


def test_a_run_that_failed_before_its_ledger_began_says_why(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(RunConfig(folder=tmp_path)))
    write_state(tmp_path, state="failed", line="the engine did not start: port 8000 is taken")
    said = status(tmp_path)
    assert said["state"] == "failed"
    assert said["rounds"] == []
    assert said["line"].startswith("the engine did not start: port 8000 is taken; mend that, then")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda folder: (folder / "config.yaml").unlink(), "no run was begun there"),
        (lambda folder: (folder / "state.json").write_text('{"state": '), "cannot be read"),
        (lambda folder: (folder / "ledger.sqlite").write_bytes(b"x" * 5000), "ledger"),
    ],
)
def test_a_folder_that_cannot_be_read_gets_one_line(
    run: RunFolder, spoil: Any, complaint: str
) -> None:
    spoil(run.path)
    with pytest.raises(CannotRun, match=complaint) as told:
        status(run.path)
    assert "\n" not in str(told.value)


def test_looking_changes_nothing(run: RunFolder) -> None:
    end_round(run, judge(run, "quarantine", 1))
    before = {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
    status(run.path)
    assert {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()} == before


def test_the_screen_takes_a_summary_with_nothing_in_it() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(closing({"state": "failed", "rounds": [{"round": 1}]}))
    assert "no batch was judged" in console.export_text()
