"""`regent probe crowd MODEL MODEL ...`: which items tell models apart.

Exit codes: 0 the crowd can tell · 3 it is blind · 2 could not run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from regent.errors import one_line


def crowd(
    models: Annotated[list[str], typer.Argument(help="Model names, each once.")],
    split: Annotated[str, typer.Option(help="dev, sealed or all.")] = "all",
    items: Annotated[
        Path | None, typer.Option(help="A folder of SUBTASK.jsonl; default: the shipped items.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the test against coins.")] = 0,
    folder: Annotated[
        Path, typer.Option("--folder", help="Where answers are kept for the next time.")
    ] = Path(".regent-probe"),
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")
    ] = False,
) -> None:
    """Ask several models in five manners each: which items do not tell them apart."""
    with one_line():
        from supervisor.reflectivity.crowd import enough, gather
        from supervisor.reflectivity.crowd_report import crowd_fields, show_crowd
        from supervisor.reflectivity.items import asked_of
        from supervisor.reflectivity.witness import witness

        enough(models)
        asked = asked_of(items, split)
        with Console(stderr=True).status("") as status:
            gathered = gather(
                ((name, witness(name)) for name in models),
                asked,
                folder,
                lambda respondent, done: status.update(f"{respondent}: {done} of {len(asked)}"),
            )
        found = gathered.analysed(asked, seed)
        fields = {**crowd_fields(gathered, found, asked), "split": split, "seed": seed}
        if as_json:
            typer.echo(json.dumps(fields, ensure_ascii=False))
        else:
            Console().print(show_crowd(fields))
        raise typer.Exit(3 if found.blind else 0)
