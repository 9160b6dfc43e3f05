"""`regent probe MODEL [MODEL2]`, and `make`, `validate`, `propose`, `export` and `crowd`.

Exit codes: 0 the model can testify, two models are stable, every gate holds, a proposal was taken ·
1 two models differ, a gate fails · 3 inconclusive (blind throughout, or unsure), no proposal was
taken · 2 could not run. With `--propensity` see `cli_propensity`; of `crowd` see `cli_crowd`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from regent.errors import one_line
from supervisor.cli_crowd import crowd


class _ModelFirst(typer.core.TyperGroup):
    """`regent probe NAME` asks NAME; the named sub-commands stay what they are."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = ["ask", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_ModelFirst,
    no_args_is_help=True,
    help="Stable reflectivity: probe MODEL [MODEL2]; make, validate, propose, export frames.",
)
app.command()(crowd)

Json = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")
]
Frames = Annotated[Path | None, typer.Argument(help="A folder of frames; default: the shipped.")]
Items = Annotated[
    Path | None,
    typer.Option("--items", help="A folder of SUBTASK.jsonl; default: the shipped items."),
]
Split = Annotated[str, typer.Option("--split", help="dev, sealed or all.")]


@app.command()
def ask(
    model: Annotated[str, typer.Argument(help="A model name.")],
    model2: Annotated[str, typer.Argument(help="A second, to be held against the first.")] = "",
    split: Split = "all",
    items: Annotated[
        Path | None,
        typer.Option(help="A folder of SUBTASK.jsonl, or of dilemmas; default: the shipped."),
    ] = None,
    propensity: Annotated[
        bool,
        typer.Option(
            "--propensity",
            help="What it says it would choose, against what it chooses; "
            "a second model predicts the first, and the first the second.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    folder: Annotated[
        Path, typer.Option("--folder", help="Where answers are kept for the next time.")
    ] = Path(".regent-probe"),
    as_json: Json = False,
) -> None:
    """How well a model tells its values from others', now from later, and what moves them."""
    with one_line():
        if propensity:
            from supervisor.cli_propensity import ask_dilemmas

            names = [name for name in (model, model2) if name]
            raise typer.Exit(ask_dilemmas(names, split, items, folder, seed, as_json))
        from supervisor.reflectivity.asking import ask as put
        from supervisor.reflectivity.items import asked_of
        from supervisor.reflectivity.report import change_fields, probe_fields, show_probe
        from supervisor.reflectivity.scoring import changes, scores
        from supervisor.reflectivity.witness import witness

        asked = asked_of(items, split)
        progress = Console(stderr=True)
        told: list[dict[str, Any]] = []
        answers = []
        for name in filter(None, (model, model2)):
            speaker = witness(name)
            with progress.status(f"{name}: 0 of {len(asked)}") as status:
                answers.append(
                    put(
                        speaker,
                        asked,
                        folder,
                        lambda done, name=name, status=status: status.update(  # type: ignore[misc]
                            f"{name}: {done} of {len(asked)}"
                        ),
                    )
                )
            raw = scores(asked, answers[-1].raw, seed)
            by_token = scores(asked, answers[-1].normalised, seed)
            told.append({"name": name, "subtasks": probe_fields(raw, by_token)})
        changed = changes(asked, answers[0].raw, answers[1].raw, seed) if model2 else []
        fields = {
            "models": told,
            "changes": change_fields(changed),
            "split": split,
            "items": len(asked),
            "seed": seed,
        }
        if as_json:
            typer.echo(json.dumps(fields, ensure_ascii=False))
        else:
            Console().print(show_probe(fields))
        said = {change.word for change in changed}
        if said & {"worse", "better"}:
            raise typer.Exit(1)
        blind = all(row["blind"] for row in told[0]["subtasks"].values())
        if said - {"stable"} or (not changed and blind):
            raise typer.Exit(3)


@app.command()
def make(
    frames: Frames = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for SUBTASK.jsonl.")] = Path("items"),
    rotation: Annotated[
        int, typer.Option(min=0, max=2, help="Which of the three wordings of each cause.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Make probing items of frames (YAML): a quad of four for each frame and sub-task."""
    with one_line():
        from regent.errors import CannotRun
        from supervisor.reflectivity.faults import frame_faults
        from supervisor.reflectivity.frame import read_frames
        from supervisor.reflectivity.items import forge, frames_folder, write_items

        found = read_frames(frames or frames_folder())
        for frame in found:
            for fault in frame_faults(frame):
                raise CannotRun(f"{frame.name}: {fault}; `regent probe validate` lists every fault")
        made = forge(found, rotation)
        paths = write_items(made, out)
        if as_json:
            typer.echo(json.dumps({"items": len(made), "files": [str(path) for path in paths]}))
        else:
            Console().print(f"{len(made)} items of {len(found)} frames in {out}")


@app.command()
def validate(frames: Frames = None, as_json: Json = False) -> None:
    """Hold frames and the items made of them to every gate, each with its figure."""
    with one_line():
        from supervisor.reflectivity.frame import read_what_can
        from supervisor.reflectivity.items import frames_folder
        from supervisor.reflectivity.report import show_validation, validation_fields
        from supervisor.reflectivity.validation import validate as hold

        sound, unreadable = read_what_can(frames or frames_folder())
        found = hold(sound, faults=unreadable)
        if as_json:
            typer.echo(json.dumps(validation_fields(found), ensure_ascii=False))
        else:
            Console().print(show_validation(found))
        raise typer.Exit(0 if found.holds else 1)


@app.command()
def propose(
    model: Annotated[str, typer.Option(help="Who writes: a model name, say NAME@http://host/v1.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for what passes.")],
    reader: Annotated[
        str, typer.Option(help="Who reads blind; default: the one that writes.")
    ] = "",
    frame: Annotated[
        str, typer.Option(help="Word the causes of this frame anew: a name, or a YAML file.")
    ] = "",
    domain: Annotated[str, typer.Option(help="Of new frames, with --genre.")] = "",
    genre: Annotated[str, typer.Option(help="Of new frames, with --domain.")] = "",
    n: Annotated[int, typer.Option("--n", min=1, help="Proposals.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of examples and draws.")] = 0,
    as_json: Json = False,
) -> None:
    """Have a model propose frames or wordings, and take only what passes the gates and a reader."""
    with one_line():
        from regent.config import EngineConfig
        from supervisor.naming import Voices
        from supervisor.reflectivity.filing import folder_for
        from supervisor.reflectivity.proposing import CONTEXT, propose, source_of, subject_of
        from supervisor.reflectivity.report import proposal_fields, show_proposals

        subject = subject_of(frame, domain, genre)
        folder = folder_for(out)
        progress = Console(stderr=True)
        long = EngineConfig(max_model_len=CONTEXT, request_timeout_s=600)
        voices = Voices(folder / "logs", config=long)
        outcomes = []
        try:
            source = source_of(model, reader or model, seed, voices.speaker, folder)
            with progress.status(f"{model} is asked for proposal 1 of {n}") as status:
                for outcome in propose(source, subject, n, folder):
                    outcomes.append(outcome)
                    status.update(f"{model} is asked for proposal {len(outcomes) + 1} of {n}")
        finally:
            voices.close()
        fields = proposal_fields(source, outcomes, folder)
        if as_json:
            typer.echo(json.dumps(fields, ensure_ascii=False))
        else:
            Console().print(show_proposals(fields))
        raise typer.Exit(0 if fields["taken"] else 3)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    items: Items = None,
    split: Split = "all",
    as_json: Json = False,
) -> None:
    """Write the items as lm-eval tasks and an inspect_ai task that run without Regent."""
    with one_line():
        from supervisor.reflectivity.exports.writing import export as write
        from supervisor.reflectivity.items import asked_of

        asked = asked_of(items, split)
        paths = write(asked, folder)
        if as_json:
            typer.echo(json.dumps({"items": len(asked), "files": [str(path) for path in paths]}))
        else:
            Console().print(
                f"{len(asked)} items in {folder}; {folder / 'README.md'} says how to run them"
            )
