"""`regent review` and `regent audit`: a person's door to a run's record.

Exit codes: 0 done or all sound · 1 something was altered · 2 could not run (one line says why).
"""

from __future__ import annotations

import json
import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from regent.errors import CannotRun, one_line

app = typer.Typer(no_args_is_help=True)
audit = typer.Typer(no_args_is_help=True, help="Check a run's record, and where things came from.")
app.add_typer(audit, name="audit")

Run = Annotated[Path, typer.Argument(metavar="RUN", help="the run's folder")]
Json = Annotated[bool, typer.Option("--json", help="one JSON object on stdout")]


class Action(StrEnum):
    """What a reviewer does."""

    list = "list"
    release = "release"
    reject = "reject"
    revoke = "revoke"


def _print(value: dict[str, Any], text: str, as_json: bool) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False) if as_json else text)


@app.command()
def review(
    run: Run,
    action: Annotated[Action, typer.Argument(help="what to do")] = Action.list,
    id: Annotated[str, typer.Argument(metavar="ID", help="(the start of) an id")] = "",
    reason: Annotated[str, typer.Option(help="why; kept in the ledger")] = "",
    reviewer: Annotated[str, typer.Option(help="who; by default the user")] = "",
    as_json: Json = False,
) -> None:
    """List what is quarantined, and release, reject or revoke it with a reason."""
    from supervisor.record.folder import open_run
    from supervisor.review import Review

    with one_line():
        opened = open_run(run)
        desk = Review(opened.ledger, opened.vault)
        if action is Action.list:
            waiting = desk.quarantined()
            lines = [
                f"{item.subject_kind} {item.subject[:12]}  since {item.since[:19]}  "
                f"{'; '.join(item.reasons)}"
                for item in waiting
            ]
            text = "\n".join(lines) or "nothing is quarantined"
            _print({"quarantined": [item.as_dict() for item in waiting]}, text, as_json)
            return
        if not id:
            raise CannotRun(f"{action.value} needs an id; `regent review {run} list` shows them")
        decide = {
            Action.release: desk.release,
            Action.reject: desk.reject,
            Action.revoke: desk.revoke,
        }
        row = decide[action](id, reason, reviewer)
        said = row.fields()
        value = {"seq": row.seq, "kind": row.kind, "about": row.subject, **said}
        subject = said.get("subject", row.subject)
        text = f"{action.value}: {said['subject_kind']} {subject[:12]}, ledger row {row.seq}"
        _print(value, text, as_json)


@audit.command()
def verify(run: Run, as_json: Json = False) -> None:
    """Recompute the chain and every digest, and compare the MLflow view. Exit 1: altered."""
    from supervisor.record.verification import verify as verify_run

    with one_line():
        found = verify_run(run)
    problems = [str(problem) for problem in found if problem.altered]
    notes = [str(problem) for problem in found if not problem.altered]
    lines = [f"altered: {line}" for line in problems] + [f"note: {line}" for line in notes]
    text = "\n".join(lines if problems else ["all sound", *lines])
    _print({"sound": not problems, "problems": problems, "notes": notes}, text, as_json)
    if problems:
        raise typer.Exit(1)


@audit.command()
def why(
    run: Run,
    id: Annotated[str, typer.Argument(metavar="ID", help="(the start of) any record's id")],
    as_json: Json = False,
) -> None:
    """From an example, batch or checkpoint back to its making, and forward to what it made."""
    from supervisor.record.folder import open_run
    from supervisor.record.lineage import render
    from supervisor.record.lineage import why as lineage_of

    with one_line():
        opened = open_run(run)
        links = lineage_of(opened.ledger, opened.store, id)
        text = render(links, shutil.get_terminal_size((100, 24)).columns)
        problems = opened.ledger.verify()
        if problems:
            text += (
                f"\n! {problems[0].where}: {problems[0].detail}. What stands above may not be "
                f"what was recorded; `regent audit verify {run}` says more"
            )
        said = {"lineage": [link.as_dict() for link in links], "sound": not problems}
        _print(said, text, as_json)


@audit.command()
def publish(run: Run, as_json: Json = False) -> None:
    """Bring the MLflow view up to date with the ledger, looking again at every row."""
    from supervisor.record.folder import open_run
    from supervisor.record.verification import audit_view

    with one_line():
        opened = open_run(run)
        view = audit_view(opened)
        problem = view.publish(opened.ledger, opened.store, whole=True)
        if problem:
            raise CannotRun(problem)
        value = {"uri": view.uri, "experiment": view.lineage, "seconds": round(view.seconds, 3)}
        text = f"published to {view.uri}, experiment '{view.lineage}', in {view.seconds:.1f} s"
        _print(value, text, as_json)
