"""`regent env`: which environments, skills and levels there are, and which did not load.

Does not cover: running tasks; that is the agents' work.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from environments.registry import discover

app = typer.Typer(help="Where experiments happen.", no_args_is_help=True)


@app.callback()
def env() -> None:
    """Where experiments happen."""


@app.command("list")
def list_environments(
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")
    ] = False,
) -> None:
    """Show each environment with its skills and levels, where it came from, and broken ones."""
    if as_json:
        typer.echo(json.dumps(listing(), ensure_ascii=False))
        return
    found = discover()
    table = Table("environment", "from", "skills (levels)")
    for name, world in found.environments.items():
        skills = ", ".join(f"{skill} ({levels})" for skill, levels in world.skills.items())
        table.add_row(name, found.sources[name], skills)
    Console().print(table)
    for label, problem in found.broken.items():
        typer.echo(f"broken: {label}: {problem}", err=True)


def listing() -> dict[str, Any]:
    """What `--json` prints: `environments` (`name`, `source`, `skills`) and `broken` ones."""
    found = discover()
    return {
        "environments": [
            {"name": name, "source": found.sources[name], "skills": dict(world.skills)}
            for name, world in found.environments.items()
        ],
        "broken": dict(found.broken),
    }
