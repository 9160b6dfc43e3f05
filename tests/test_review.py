"""A person decides about the quarantined, once, with a reason, in the ledger; canaries never go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from regent.config import RunConfig, to_yaml
from regent.errors import CannotRun
from regent.records import Batch, Checkpoint, Decision, Example, Message, Verdict
from supervisor.cli_record import app
from supervisor.record.folder import RunFolder, open_run
from supervisor.record.ledger import Ledger
from supervisor.record.vault import build_batch
from supervisor.review import Review


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "config.yaml").write_text(to_yaml(RunConfig(folder=tmp_path)))
    (tmp_path / "store").mkdir()
    Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", tmp_path / "supervisor")
    return open_run(tmp_path)


def batch_with(
    run: RunFolder, decision: Decision, number: int = 0, canary: bool = False, look: int = 0
) -> Batch:
    message = Message(role="assistant", content=f"answer {number}")
    batch, data = build_batch([Example(messages=(message,))], 0, [], canary)
    run.vault.deposit(batch, data)
    run.ledger.append("verdict", verdict_on(batch.id, decision, look))
    return batch


def verdict_on(subject: str, decision: Decision, look: int = 0) -> Verdict:
    return Verdict(
        subject=subject,
        subject_kind="batch",
        decision=decision,
        reasons=("diff/share@parent blind",),
        measurements=(),
        policy="policy",
        look=look,
    )


def desk_of(run: RunFolder) -> Review:
    return Review(run.ledger, run.vault)


def test_only_what_is_quarantined_and_not_yet_reviewed_waits(run: RunFolder) -> None:
    waiting = batch_with(run, "quarantine", 1)
    batch_with(run, "approve", 2)
    batch_with(run, "veto", 3)
    batch_with(run, "quarantine", 4, canary=True)
    desk = desk_of(run)
    assert [item.subject for item in desk.quarantined()] == [waiting.id]
    desk.reject(waiting.id, "leaks", "ada")
    assert desk.quarantined() == []


def test_a_later_verdict_ends_the_quarantine(run: RunFolder) -> None:
    batch = batch_with(run, "quarantine")
    run.ledger.append("verdict", verdict_on(batch.id, "approve", look=1))
    assert desk_of(run).quarantined() == []


def test_a_release_opens_the_vault_and_names_its_reviewer(run: RunFolder) -> None:
    batch = batch_with(run, "quarantine")
    row = desk_of(run).release(batch.id[:10], "read it all", "ada")
    assert row.fields() == {
        "action": "release",
        "subject": batch.id,
        "subject_kind": "batch",
        "reason": "read it all",
        "reviewer": "ada",
    }
    assert run.vault.fetch(batch.bytes_digest)


def test_a_rejected_batch_stays_in(run: RunFolder) -> None:
    batch = batch_with(run, "quarantine")
    desk_of(run).reject(batch.id, "leaks", "ada")
    with pytest.raises(CannotRun, match="already has the review 'reject' by ada"):
        desk_of(run).release(batch.id, "changed my mind", "bob")
    with pytest.raises(CannotRun, match="no approved batch"):
        run.vault.fetch(batch.bytes_digest)


def test_a_canary_is_not_released(run: RunFolder) -> None:
    batch = batch_with(run, "quarantine", canary=True)
    with pytest.raises(CannotRun, match="canar"):
        desk_of(run).release(batch.id, "looks fine", "ada")
    assert run.ledger.rows("review") == []


@pytest.mark.parametrize("decision", ["approve", "veto"])
def test_only_the_quarantined_is_released(run: RunFolder, decision: Decision) -> None:
    batch = batch_with(run, decision)
    with pytest.raises(CannotRun, match=f"not quarantined .*{decision}"):
        desk_of(run).release(batch.id, "please", "ada")


def test_an_unknown_id_gets_the_nearest(run: RunFolder) -> None:
    batch = batch_with(run, "quarantine")
    wrong = batch.id[:6] + "zzz"
    with pytest.raises(CannotRun, match=f"nearest id is {batch.id[:16]}"):
        desk_of(run).release(wrong, "please", "ada")


def test_an_ambiguous_start_asks_for_more(run: RunFolder) -> None:
    starts = [batch_with(run, "quarantine", number).id[0] for number in range(17)]
    shared = next(start for start in starts if starts.count(start) > 1)
    with pytest.raises(CannotRun, match="give more of the id"):
        desk_of(run).release(shared, "please", "ada")


def test_a_decision_needs_its_reason(run: RunFolder) -> None:
    batch = batch_with(run, "quarantine")
    with pytest.raises(CannotRun, match="--reason"):
        desk_of(run).release(batch.id, "  ", "ada")
    assert run.ledger.rows("review") == []


def test_a_checkpoint_can_be_revoked_once(run: RunFolder) -> None:
    checkpoint = Checkpoint(round=1, name="r1", digest="d")
    run.ledger.append("checkpoint", checkpoint)
    row = desk_of(run).revoke(checkpoint.id[:8], "drifts", "ada")
    assert (row.subject, row.fields()["subject_kind"]) == (checkpoint.id, "checkpoint")
    assert desk_of(run).revoke(checkpoint.id, "drifts", "ada") == row
    with pytest.raises(CannotRun, match="already revoked"):
        desk_of(run).revoke(checkpoint.id, "another reason", "ada")


def test_the_command_lists_decides_and_says_what_is_wrong_in_one_line(run: RunFolder) -> None:
    batch = batch_with(run, "quarantine")
    command, folder = CliRunner(), str(run.path)
    listed = command.invoke(app, ["review", folder, "--json"])
    assert listed.exit_code == 0
    assert json.loads(listed.stdout)["quarantined"][0]["subject"] == batch.id
    nothing = command.invoke(app, ["review", folder, "release", "zz", "--reason", "x"])
    assert (nothing.exit_code, nothing.stdout, nothing.stderr.count("\n")) == (2, "", 1)
    done = command.invoke(
        app, ["review", folder, "release", batch.id[:12], "--reason", "read it", "--json"]
    )
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["action"] == "release"
    elsewhere = command.invoke(app, ["review", str(run.path / "nowhere"), "list"])
    assert (elsewhere.exit_code, elsewhere.stderr.count("\n")) == (2, 1)
