"""`regent gate batch` and `regent gate checkpoint`: the gate alone, for a loop of your own.

Exit codes: 0 approve · 1 veto · 3 quarantine · 2 could not run (one line says what, and the mend).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from regent.errors import CannotRun, one_line
from regent.models.speaker import Speaker
from regent.records import Checkpoint, Example, Reference, Verdict
from supervisor.instrument import kept_page

app = typer.Typer(no_args_is_help=True, help="Judge a batch or a checkpoint, without a run.")

Parent = Annotated[str, typer.Option("--parent", help="The model that it would be trained from.")]
Origin = Annotated[
    str, typer.Option("--origin", help="The lineage's first model; default: parent.")
]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="A policy's YAML file.")]
Skill = Annotated[
    list[str] | None, typer.Option("--skill", help="ENVIRONMENT/SKILL/LEVEL to hold; repeatable.")
]
Target = Annotated[
    list[str] | None,
    typer.Option("--target", help="ENVIRONMENT/SKILL that training meant to change."),
]
Folder = Annotated[
    Path, typer.Option("--folder", help="The supervisor's own folder: budget, samples.")
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")
]

_DEFAULT_SKILLS = (
    "reasoning/products/0",
    "reasoning/fraction_simplification/0",
    "reasoning/basic_arithmetic/0",
)
_CODES = {"approve": 0, "veto": 1, "quarantine": 3}


@app.command()
def batch(
    file: Annotated[Path, typer.Argument(help='JSONL: {"messages": […]} a line, as TRL takes it.')],
    parent: Parent,
    origin: Origin = "",
    policy: PolicyFile = None,
    target: Target = None,
    folder: Folder = Path(".regent-gate"),
    as_json: Json = False,
) -> None:
    """Judge training data before anything is trained on it."""
    with one_line():
        from supervisor.record.vault import build_batch

        _known(target)
        examples = read_examples(file)
        record, _ = build_batch(examples, 0, target or [])

        def judge(session: _Session) -> Verdict:
            return session.gate.judge_batch(record, examples, session.references, record.targets)

        _judged(judge, parent, origin, policy, folder, as_json)


@app.command()
def checkpoint(
    model: Annotated[str, typer.Argument(help="The successor: a folder, an adapter, an endpoint.")],
    parent: Parent,
    origin: Origin = "",
    policy: PolicyFile = None,
    skill: Skill = None,
    target: Target = None,
    folder: Folder = Path(".regent-gate"),
    as_json: Json = False,
) -> None:
    """Judge a successor before it succeeds."""
    with one_line():
        _known(target, skill)

        def judge(session: _Session) -> Verdict:
            speaker = session.speaker(model)
            subject = Checkpoint(round=0, name=model, digest=speaker.name)
            return session.gate.judge_checkpoint(
                subject, speaker, session.references, target or [], skill or _DEFAULT_SKILLS
            )

        _judged(judge, parent, origin, policy, folder, as_json)


def _known(targets: list[str] | None, skills: list[str] | None = None) -> None:
    """Raises CannotRun on a target or skill that no environment has: a slip would exempt nothing,
    or spend a look.
    """
    from environments.skills import node_named, skill_tree
    from regent.config import EnvironmentChoice

    for target in targets or ():
        name, separator, skill = target.partition("/")
        if not separator or "/" in skill:
            raise CannotRun(f"'{target}' names no skill; write --target ENVIRONMENT/SKILL")
        skill_tree([EnvironmentChoice(name=name, skills=(skill,))])
    for node in skills or ():
        node_named(node)


def read_examples(file: Path) -> list[Example]:
    """The examples of a JSONL file. Raises CannotRun naming the line that does not parse."""
    try:
        lines = file.read_text("utf-8").split("\n")  # not splitlines: U+2028 may stand in a string
    except OSError as error:
        raise CannotRun(f"{file}: {error.strerror or error}; give a JSONL file") from error
    except UnicodeDecodeError as error:
        raise CannotRun(f"{file}: it is not UTF-8 ({error.reason}); give a JSONL file") from error
    examples = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise TypeError(f"a {type(row).__name__}")
            fields = {k: row[k] for k in ("messages", "rejected", "provenance") if k in row}
            example = Example.model_validate(fields)
            example.canonical()  # refuses half a surrogate pair here, where the line is known
            examples.append(example)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise CannotRun(f"{file}, line {number}: '{where}': {first['msg'].lower()}") from error
        except (ValueError, TypeError, RecursionError) as error:
            raise CannotRun(
                f"{file}, line {number}: {error}; each line is one JSON object"
            ) from error
    if not examples:
        raise CannotRun(f"{file}: it holds no example; write one JSON object a line")
    return examples


class _Session:
    """A gate over named models; local weights are served by one engine in turn."""

    def __init__(self, parent: str, origin: str, policy: Path | None, folder: Path) -> None:
        from regent.config import load_policy
        from supervisor.gate import Gate
        from supervisor.naming import Voices

        self._voices = Voices(folder / "logs")
        self.gate = Gate(load_policy(policy), folder)
        mother = self.speaker(parent)
        self.references: dict[Reference, Speaker] = {
            "parent": mother,
            "origin": self.speaker(origin) if origin else mother,
        }

    def speaker(self, name: str) -> Speaker:
        return self._voices.speaker(name)

    def close(self) -> None:
        self._voices.close()


def _judged(
    judge: Callable[[_Session], Verdict],
    parent: str,
    origin: str,
    policy: Path | None,
    folder: Path,
    as_json: bool,
) -> None:
    session = _Session(parent, origin, policy, folder)
    typer.echo("judging; a checkpoint takes some minutes on two cores", err=True)
    try:
        verdict = judge(session)
    finally:
        session.close()
    if as_json:
        typer.echo(
            json.dumps({"id": verdict.id, **verdict.model_dump(mode="json")}, ensure_ascii=False)
        )
    else:
        typer.echo(verdict.decision)
        for reason in verdict.reasons:
            typer.echo(f"  {reason}")
        for page in _pages(verdict, folder):
            typer.echo(f"  what was seen: {page}")
        if verdict.decision == "quarantine":
            typer.echo(
                "  next: mend what the reasons name and judge again, or decide as a person; "
                "outside a run nothing waits for you"
            )
    raise typer.Exit(_CODES[verdict.decision])


def _pages(verdict: Verdict, folder: Path) -> list[Path]:
    """The pages that the verdict's evidence names, each once."""
    kept = folder / "scratch" / "evidence"
    names = dict.fromkeys(m.evidence for m in verdict.measurements if m.evidence)
    pages = (kept_page(kept / f"{name}.json") for name in names)
    return [page for page in pages if page is not None]
