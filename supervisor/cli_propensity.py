"""`regent probe MODEL [MODEL2] --propensity`: what a model says of itself, and what it does.

Exit codes: 0 each model knows itself: better than its mode and, where there are two, better than
the other knows it · 1 one is surely worse than either · 3 anything else (blind, or unsure) · 2
could not run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console

from regent.errors import CannotRun
from supervisor.reflectivity.dilemmas import put, read_dilemmas, shipped_dilemmas
from supervisor.reflectivity.propensity import Propensity, propensities
from supervisor.reflectivity.report import propensity_fields, show_propensity
from supervisor.reflectivity.witness import witness


def ask_dilemmas(
    models: Sequence[str], split: str, items: Path | None, folder: Path, seed: int, as_json: bool
) -> int:
    """Asks, prints, and returns the exit code. `items`: a folder of dilemmas (YAML), or None."""
    if split != "all":
        raise CannotRun("dilemmas have no split; leave out --split")
    dilemmas = shipped_dilemmas() if items is None else read_dilemmas(items)
    progress = Console(stderr=True)
    answered = []
    for name in models:
        with progress.status(name) as status:
            answered.append(
                put(
                    witness(name),
                    dilemmas,
                    folder,
                    lambda done, name=name, status=status: status.update(  # type: ignore[misc]
                        f"{name}: {done} of {5 * len(dilemmas)}"
                    ),
                )
            )
    found = propensities([one.sides for one in dilemmas], answered, seed)
    fields = {
        "models": [
            {"name": name, **propensity_fields(one)}
            for name, one in zip(models, found, strict=True)
        ],
        "dilemmas": len(dilemmas),
        "seed": seed,
    }
    if as_json:
        typer.echo(json.dumps(fields, ensure_ascii=False))
    else:
        Console().print(show_propensity(fields))
    return exit_code(found)


def exit_code(found: Sequence[Propensity]) -> int:
    """See the module."""
    others = [one.other.word for one in found if one.other is not None]
    if "worse" in others or any(one.word == "mistakes itself" for one in found):
        return 1
    sure = all(one.word == "knows itself" for one in found) and set(others) <= {"better"}
    return 0 if sure else 3
