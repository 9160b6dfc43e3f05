"""Proposed frames in their folder, as YAML that a person reads and `read_frame` reads back."""

from __future__ import annotations

import textwrap
from pathlib import Path

import yaml

from regent.errors import CannotRun
from supervisor.reflectivity.frame import Cell, Frame, read_frames
from supervisor.reflectivity.items import frames_folder


def folder_for(out: Path) -> Path:
    """The folder, made. Raises CannotRun among the shipped frames, and where none can be made."""
    if out.resolve().is_relative_to(frames_folder().resolve()):
        raise CannotRun(f"{out} holds the shipped frames, which stay as they are; name another")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotRun(f"{out}: {error.strerror or error}; name a folder") from error
    return out


def others_in(out: Path, request: str) -> list[Frame]:
    """New frames in the folder that this request did not put there."""
    if not any(out.rglob("*.yaml")):
        return []
    marked = [(frame, frame.proposed) for frame in read_frames(out)]
    return [
        f for f, mark in marked if mark is None or not (mark.rewords or mark.request == request)
    ]


def tidy(cell: Cell) -> Cell:
    """Its text in lines that a person can read."""
    parts = [" ".join(part.split()) for part in cell.text.strip().split("\n\n")]
    lines = [textwrap.fill(p, 96, break_long_words=False, break_on_hyphens=False) for p in parts]
    return cell.model_copy(update={"text": "\n\n".join(lines) + "\n"})


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def write_frame(frame: Frame, out: Path) -> None:
    """Writes NAME.yaml; one that is there already stays, as a person may have mended it. Raises
    CannotRun where none can be written.
    """
    path = out / f"{frame.name}.yaml"
    if path.exists():
        return
    fields = frame.model_dump(mode="json", exclude_none=True)
    text = yaml.dump(fields, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=100)
    partial = path.with_suffix(".part")
    try:
        partial.write_text(text, "utf-8")
        partial.replace(path)
    except OSError as error:
        raise CannotRun(f"{path}: {error.strerror or error}; name a folder") from error
