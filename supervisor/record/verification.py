"""Does a run's record still say what was written? Chain, bytes, weights and the MLflow view.

Recomputes everything from the ledger down and names whatever does not agree. Does not cover: what
the ledger never named, nor a run whose key was stolen.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from regent.errors import CannotRun
from regent.models.weights import checkpoint_digest
from regent.records import digest
from regent.store import Corrupt
from supervisor.record.audit import AuditView, Published
from supervisor.record.folder import RunFolder, open_run
from supervisor.record.ledger import Problem, Row
from supervisor.record.lineage import Rows, champion
from supervisor.record.publishing import DIGEST_CHARACTERS

_NAMES = re.compile(rb"[0-9a-f]{64}")


def verify(run_folder: Path) -> list[Problem]:
    """Everything that does not agree in a run's folder; empty if all is sound.

    Problems with `altered` False are notes: what could not be looked at, or is merely behind.
    Raises CannotRun if no run was begun there.
    """
    try:
        run = open_run(run_folder)
    except CannotRun as error:
        if (run_folder / "ledger.sqlite").exists() and str(error).startswith("ledger "):
            return [Problem("ledger", str(error))]
        raise
    problems = run.ledger.verify()
    try:
        rows = run.ledger.rows()
        problems.extend(_stored(run, rows))
        problems.extend(_weights(run, rows))
        problems.extend(_view(run, rows))
    except (CannotRun, ValueError, KeyError, TypeError, AttributeError) as error:
        if not problems:
            raise
        problems.append(Problem("ledger", f"could not be followed further ({error})", False))
    return problems


def audit_view(run: RunFolder) -> AuditView:
    """The MLflow view that a run's configuration asks for."""
    return AuditView(run.mlflow_uri, run.config.lineage, checkpoints=run.checkpoints)


def _stored(run: RunFolder, rows: list[Row]) -> Iterator[Problem]:
    """Every blob that a row names and the store has, and the ones that it must have."""
    must: dict[str, str] = {}
    for row in rows:
        if row.kind == "batch":
            must[row.fields()["bytes_digest"]] = f"bytes of batch {row.subject[:12]}"
        elif row.kind == "release":
            must[row.fields()["released_digest"]] = f"approved bytes of batch {row.subject[:12]}"
    named = {name.decode() for row in rows for name in _NAMES.findall(row.payload)}
    for name in sorted(named | must.keys() | {row.subject for row in rows}):
        what = must.get(name, f"stored record {name[:12]}")
        if not run.store.has(name):
            if name in must:
                yield Problem(f"{what} ({name[:12]})", "are missing from the store")
            continue
        try:
            run.store.get(name)
        except Corrupt:
            yield Problem(f"{what} ({name[:12]})", f"altered; file {run.store.path(name)}")


def _weights(run: RunFolder, rows: list[Row]) -> Iterator[Problem]:
    """Checkpoint folders, the origin's too, against their digests."""
    for row in rows:
        if row.kind != "checkpoint":
            continue
        fields = row.fields()
        folder = run.checkpoints / fields["name"]
        where = f"checkpoint {fields['name']} ({row.subject[:12]})"
        if not folder.is_dir():
            yield Problem(where, f"its folder {folder} is missing")
            continue
        try:
            found = checkpoint_digest(folder)
        except CannotRun as error:
            yield Problem(where, str(error))
            continue
        if found != fields["digest"]:
            yield Problem(where, f"altered; the files of {folder} hash to {found[:12]}")


def _view(run: RunFolder, rows: list[Row]) -> Iterator[Problem]:
    where = f"MLflow view {run.mlflow_uri}"
    local = run.mlflow_uri.removeprefix("sqlite:///")
    if run.mlflow_uri.startswith("sqlite:///") and not Path(local).exists():
        yield Problem(where, "is not there; `regent audit publish` makes it", altered=False)
        return
    view = audit_view(run)
    try:
        shown = view.published(rows[0].hash)
    except CannotRun as error:
        yield Problem(where, f"could not be asked ({error})", altered=False)
        return
    if shown is None or shown.seq < 0:
        yield Problem(where, "has nothing of this run; `regent audit publish`", altered=False)
        return
    if shown.seq < rows[-1].seq:
        detail = f"is {rows[-1].seq - shown.seq} rows behind; `regent audit publish`"
        yield Problem(where, detail, altered=False)
    yield from _compare(view, shown, rows)


def _compare(view: AuditView, shown: Published, rows: list[Row]) -> Iterator[Problem]:
    """The view against the rows that it says it shows."""
    told = [row for row in rows if row.seq <= shown.seq]
    if not told or told[-1].seq != shown.seq or told[-1].hash != shown.head:
        detail = f"is not the row that MLflow saw as {shown.seq}; the ledger was replaced"
        yield Problem(f"ledger row {shown.seq}", detail)
    by_kind = Rows(told)
    released = {f["released_digest"]: f for f in by_kind.of("release").values()}
    for name, fields in released.items():
        where = f"MLflow dataset of batch {fields['batch'][:12]} ({name[:12]})"
        tags = shown.batches.get(name)
        if tags is None:
            yield Problem(where, "is missing; `regent audit publish`")
            continue
        if tags["digest"] != name[:DIGEST_CHARACTERS] or tags["regent.batch"] != fields["batch"]:
            yield Problem(where, "its digest or batch differs from the ledger's")
        with tempfile.TemporaryDirectory() as scratch:
            try:
                data = view.artifact(tags["run_id"], f"batches/{name}.jsonl", Path(scratch))
            except CannotRun as error:
                yield Problem(where, str(error))
                continue
        if digest(data) != name:
            yield Problem(where, "its artifact was altered")
    later = {row.fields()["released_digest"] for row in rows if row.kind == "release"}
    for name in shown.batches.keys() - later:
        yield Problem(f"MLflow dataset {name[:12]}", "is in no release of the ledger")
    for checkpoint_id, fields in by_kind.of("checkpoint").items():
        if shown.checkpoints.get(checkpoint_id) != fields["digest"]:
            where = f"MLflow model version of checkpoint {fields['name']} ({checkpoint_id[:12]})"
            yield Problem(where, "is missing or names another digest")
    ruler = champion(told)
    if shown.champion is None:
        detail = "stands for another run of this lineage"
        yield Problem("MLflow alias champion", detail, altered=False)
    elif ruler and shown.champion != ruler:
        detail = f"is {shown.champion[:12] or 'unset'}, the ledger's is {ruler[:12]}"
        yield Problem("MLflow alias champion", detail)
