"""What is written by hand, in YAML: refused with one line that names the file and the place."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from regent.errors import CannotRun

#: libyaml's where it is there: ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Written(BaseModel):
    """Frozen, and without a field that nobody asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Kind = TypeVar("Kind", bound=Written)


def read_written(path: Path, kind: type[Kind], shape: str) -> Kind:
    """The record in a file; `shape` says in words what it is. Raises CannotRun with the place."""
    try:
        raw = yaml.load(path.read_text("utf-8"), Loader=_LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CannotRun(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise CannotRun(f"{path}: {shape}")
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise CannotRun(f"{path}: {first_fault(error)}") from error


def first_fault(error: ValidationError) -> str:
    """The first thing that is wrong, with its place, in one line."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place + ': ' if place else ''}{first['msg'].removeprefix('Value error, ')}"
