"""The `regent` command. Each package brings its own sub-commands; this one mounts them.

Exit codes: 0 done, approve or same · 1 veto, different or altered · 2 could not run (one line says
what, and the mend) · 3 quarantine, inconclusive or waiting for a person.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from environments import cli as environments_cli
from regent.config import load_config, load_policy
from regent.errors import one_line
from supervisor import cli_diff, cli_gate, cli_probe, cli_record

app = typer.Typer(
    name="regent",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Supervised self-improvement of language models: a regent rules until the heir is fit.",
)
app.add_typer(environments_cli.app, name="env")
app.add_typer(cli_record.app)
app.add_typer(cli_diff.app)
app.add_typer(cli_probe.app, name="probe")
app.add_typer(cli_gate.app, name="gate")

_STOPPED = "stopped; `regent resume RUN` goes on from here"
Json = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")
]


@app.command()
def run(
    folder: Annotated[Path | None, typer.Argument(help="A new folder for the run.")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="A YAML file.")] = None,
    policy: Annotated[Path | None, typer.Option("--policy", help="A policy's YAML file.")] = None,
    model: Annotated[str, typer.Option("--model", help="The model to improve.")] = "",
    rounds: Annotated[
        int, typer.Option("--rounds", min=0, help="0 takes the configuration's.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", min=-1, help="-1 takes the configuration's.")] = -1,
    as_json: Json = False,
) -> None:
    """Run the loop: find gaps, experiment, collect, judge, train, judge, promote."""
    with one_line(_STOPPED):
        from agents.run import fresh_folder, start

        given = load_config(config)
        overrides: dict[str, Any] = {}
        if folder is not None:
            overrides["folder"] = folder
        elif "folder" not in given.model_fields_set:
            overrides["folder"] = fresh_folder(Path("runs"))
        overrides |= {"model": model} if model else {}
        overrides |= {"rounds": rounds} if rounds else {}
        overrides |= {"seed": seed} if seed >= 0 else {}
        overrides |= {"policy": load_policy(policy)} if policy else {}
        chosen = given.model_copy(update=overrides)
        _watch(chosen.folder, as_json, lambda view: start(chosen, view))


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    as_json: Json = False,
) -> None:
    """Go on with a run that was cut off, or that waited for a review."""
    with one_line(_STOPPED):
        from agents.run import resume as go_on

        _watch(folder, as_json, lambda view: go_on(folder, view))


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    as_json: Json = False,
) -> None:
    """What a run is doing, or did: rounds, gains, verdicts, budget, canaries, where to look."""
    with one_line():
        from agents.status import show
        from agents.status import status as look

        summary = look(folder)
        if as_json:
            typer.echo(json.dumps(summary, ensure_ascii=False))
        else:
            Console().print(show(summary), crop=False)


def _watch(folder: Path, as_json: bool, work: Any) -> None:
    """Do `work` under a live view, then show the closing screen."""
    from agents.live import make_view
    from agents.loop import Waiting
    from agents.status import show
    from agents.status import status as look

    view = make_view(as_json)
    code = 0
    try:
        work(view)
    except Waiting as waiting:
        code = 3
        view.note(str(waiting))
    finally:
        view.end()
    summary = look(folder)
    if as_json:
        typer.echo(json.dumps(summary, ensure_ascii=False))
    else:
        Console().print(show(summary), crop=False)
    if code:
        raise typer.Exit(code)


def main() -> None:
    """Entry point of the `regent` command."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    app(prog_name="regent")


if __name__ == "__main__":
    main()
