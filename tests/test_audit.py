"""The audit convicts one flipped byte anywhere, and MLflow shows what the ledger holds.

The MLflow tests use the real MLflow on SQLite and look with its own client alone; they are `real`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from supervisor.cli_record import app
from supervisor.record.audit import AuditView
from supervisor.record.folder import RunFolder, open_run
from supervisor.record.verification import audit_view, verify
from tests.honest_run import LINEAGE, PAGE, one_round


def flip(path: Path, offset: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def flip_approved_batch(run: RunFolder) -> None:
    name = run.ledger.rows("release")[0].fields()["released_digest"]
    flip(Path(run.store.path(name)), 20)


def flip_deposited_batch(run: RunFolder) -> None:
    flip(Path(run.store.path(run.ledger.rows("batch")[0].fields()["bytes_digest"])), 20)


def flip_example(run: RunFolder) -> None:
    flip(Path(run.store.path(run.ledger.rows("batch")[0].fields()["examples"][0])), 20)


def lose_approved_batch(run: RunFolder) -> None:
    name = run.ledger.rows("release")[0].fields()["released_digest"]
    Path(run.store.path(name)).unlink()


def flip_checkpoint(run: RunFolder) -> None:
    flip(run.checkpoints / "r1" / "model.safetensors")


def flip_origin(run: RunFolder) -> None:
    flip(run.checkpoints / "origin" / "config.json")


def lose_checkpoint(run: RunFolder) -> None:
    (run.checkpoints / "r1").rename(run.path / "elsewhere")


def intrude(run: RunFolder, statement: str) -> None:
    with sqlite3.connect(run.path / "ledger.sqlite") as database:
        database.execute("DROP TRIGGER ledger_no_update")
        database.execute("DROP TRIGGER ledger_no_delete")
        database.execute(statement)
    database.close()


def flip_ledger_row(run: RunFolder) -> None:
    """One byte of a payload, in the database's file itself."""
    path = run.path / "ledger.sqlite"
    flip(path, path.read_bytes().index(b"all within tolerance"))


def lose_last_row(run: RunFolder) -> None:
    intrude(run, "DELETE FROM ledger WHERE seq = (SELECT max(seq) FROM ledger)")


def lose_all_rows(run: RunFolder) -> None:
    intrude(run, "DELETE FROM ledger")


def break_ledger_file(run: RunFolder) -> None:
    (run.path / "ledger.sqlite").write_bytes(b"\x00" * 4096)


def test_an_honest_run_is_sound(tmp_path: Path) -> None:
    run = one_round(tmp_path)
    assert [p for p in verify(tmp_path) if p.altered] == []
    result = CliRunner().invoke(app, ["audit", "verify", str(run.path), "--json"])
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert said["sound"]
    assert not said["problems"]
    assert "regent audit publish" in said["notes"][0]


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (flip_approved_batch, "approved bytes of batch"),
        (flip_deposited_batch, "bytes of batch"),
        (lose_approved_batch, "approved bytes of batch"),
        (flip_example, "stored record"),
        (flip_checkpoint, "checkpoint r1"),
        (flip_origin, "checkpoint origin"),
        (lose_checkpoint, "checkpoint r1"),
        (flip_ledger_row, "ledger row"),
        (lose_last_row, "removed from its end"),
        (lose_all_rows, "ledger"),
        (break_ledger_file, "ledger"),
    ],
)
def test_verify_names_what_was_altered_and_exits_1(
    tmp_path: Path, spoil: Callable[[RunFolder], None], named: str
) -> None:
    run = one_round(tmp_path)
    spoil(run)
    result = CliRunner().invoke(app, ["audit", "verify", str(tmp_path), "--json"])
    assert result.exit_code == 1, result.output
    assert any(named in problem for problem in json.loads(result.stdout)["problems"])


def test_a_folder_without_a_run_could_not_be_verified(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["audit", "verify", str(tmp_path)])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:1", "sqlite:////no/such/folder/mlflow.sqlite", "nonsense://x"]
)
def test_mlflow_down_is_a_line_and_not_an_error(tmp_path: Path, uri: str) -> None:
    run = one_round(tmp_path)
    view = AuditView(uri, LINEAGE)
    problem = view.publish(run.ledger, run.store)
    assert problem is not None
    assert problem.count("\n") == 0
    assert uri in problem
    assert view.seconds < 20
    assert run.ledger.verify() == []


def tables(path: Path) -> dict[str, int]:
    """How many rows each MLflow table has."""
    with sqlite3.connect(path) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        counts = {
            n: database.execute(f'SELECT count(*) FROM "{n}"').fetchone()[0] for (n,) in names
        }
    database.close()
    return counts


@pytest.mark.real
def test_the_mlflow_client_alone_finds_batches_verdicts_and_the_champions_parent(
    tmp_path: Path,
) -> None:
    from mlflow import MlflowClient

    run = one_round(tmp_path)
    view = audit_view(run)
    assert view.publish(run.ledger, run.store, finished=True) is None
    print(f"published in {view.seconds:.2f} s")

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.sqlite'}")
    experiment = client.get_experiment_by_name(LINEAGE)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    nested = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(r.info.run_name for r in nested) == ["round 0", "round 1"]
    assert {r.info.status for r in runs} == {"FINISHED"}
    first, last = (datetime.fromisoformat(run.ledger.rows()[i].at) for i in (0, -1))
    assert parent.info.start_time == int(first.timestamp() * 1000)
    assert parent.info.end_time == int(last.timestamp() * 1000)
    (begun,) = [row.fields() for row in run.ledger.rows("run")]
    assert parent.data.params == {name: str(value) for name, value in begun.items()}

    (released,) = [row.fields() for row in run.ledger.rows("release")]
    (round_1,) = [r for r in nested if r.info.run_name == "round 1"]
    assert round_1.inputs is not None
    (given,) = round_1.inputs.dataset_inputs
    tags = {tag.key: tag.value for tag in given.tags}
    assert tags["regent.sha256"] == released["released_digest"]
    assert given.dataset.digest == released["released_digest"][:36]
    assert json.loads(given.dataset.profile or "")["merkle_root"] == released["merkle_root"]
    path = client.download_artifacts(
        round_1.info.run_id, f"batches/{released['released_digest']}.jsonl", str(tmp_path)
    )
    assert Path(path).read_bytes() == run.vault.fetch(released["released_digest"])

    described = round_1.data.tags["mlflow.note.content"]
    for verdict in run.ledger.rows("verdict"):
        for said in (verdict.fields()["subject"][:12], *verdict.fields()["reasons"]):
            assert said in described
    assert round_1.data.metrics["seconds/train"] == 3.5
    assert round_1.data.metrics["checkpoint/diff/drift/vs_parent"] == 0.01
    places = [a.path for a in client.list_artifacts(round_1.info.run_id, "verdicts")]
    assert len(places) == 2
    files = {
        a.path.rpartition("/")[2] for a in client.list_artifacts(round_1.info.run_id, places[0])
    }
    assert files == {"verdict.json", "reasons.txt", "evidence"}
    (successors,) = [place for place in places if place.startswith("verdicts/checkpoint")]
    page = f"{successors}/pages/checkpoint.diff.drift.vs_parent.html"
    shown = client.download_artifacts(round_1.info.run_id, page, str(tmp_path))
    assert Path(shown).read_bytes() == PAGE

    origin, successor = run.ledger.rows("checkpoint")
    ruler = client.get_model_version_by_alias(LINEAGE, "champion")
    assert ruler.tags["regent.checkpoint"] == successor.subject
    assert ruler.tags["regent.digest"] == successor.fields()["digest"]
    assert ruler.tags["regent.parent"] == origin.subject
    assert ruler.tags["regent.decision"] == "approve"
    assert ruler.description.startswith("approve")
    assert verify(tmp_path) == []

    before = tables(tmp_path / "mlflow.sqlite")
    again = audit_view(open_run(tmp_path))
    assert again.publish(run.ledger, run.store, whole=True) is None
    print(f"published again, every row, in {again.seconds:.2f} s")
    assert again.publish(run.ledger, run.store) is None
    print(f"nothing to publish: {again.seconds:.2f} s")
    assert tables(tmp_path / "mlflow.sqlite") == before


class Interrupted(Exception):
    """What a killed process would look like to the view."""


@pytest.mark.real
def test_the_audit_sees_an_altered_view_and_publishing_resumes_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    run = one_round(tmp_path)
    view = audit_view(run)

    def fail(*_: object, **__: object) -> None:
        raise Interrupted("connection reset")

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "create_model_version", fail)
        problem = view.publish(run.ledger, run.store)
    assert problem is not None
    assert "connection reset" in problem
    assert [p for p in verify(tmp_path) if p.altered] == []
    assert view.publish(run.ledger, run.store) is None
    assert verify(tmp_path) == []

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.sqlite'}")
    ruler = client.get_model_version_by_alias(LINEAGE, "champion")
    other = ruler.tags["regent.parent_version"]
    client.set_registered_model_alias(LINEAGE, "champion", other)
    assert [p.where for p in verify(tmp_path)] == ["MLflow alias champion"]
    client.set_registered_model_alias(LINEAGE, "champion", ruler.version)

    (path,) = (tmp_path / "mlflow_artifacts").rglob("batches/*.jsonl")
    flip(path, 20)
    assert any("its artifact was altered" in str(p) for p in verify(tmp_path))
    flip(path, 20)

    with sqlite3.connect(tmp_path / "mlflow.sqlite") as database:
        database.execute("DELETE FROM inputs WHERE source_type = 'DATASET'")
    database.close()
    assert any("MLflow dataset" in p.where and p.altered for p in verify(tmp_path))
    result = CliRunner().invoke(app, ["audit", "publish", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert verify(tmp_path) == []

    client.set_tag(_parent(client), "regent.head", "0" * 64)
    assert any("the ledger was replaced" in str(p) for p in verify(tmp_path))


def _parent(client: Any) -> str:
    experiment = client.get_experiment_by_name(LINEAGE)
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    return str(parent.info.run_id)
