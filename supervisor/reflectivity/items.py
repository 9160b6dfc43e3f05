"""Probing items: what a model is asked, one JSON object a line, and how the forge makes them.

A quad is the four items of one cell: two states of the cause by two details, the options and their
order the same throughout, so that only the cause moves the gold answer. The orders are balanced
over the quads of a sub-task, and each quad uses one of the three ways of writing its cause; the
others serve fresh looks (`rotation`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from regent.errors import CannotRun
from supervisor.reflectivity.frame import (
    SUBTASKS,
    WAYS,
    Facts,
    Frame,
    Split,
    Subtask,
    merged,
    read_frames,
)
from supervisor.reflectivity.world import answer

#: Stands in every sealed item; text that holds it must not be trained on.
CANARY = "regent-reflectivity-sealed 6f0b1c52-93d4-4c1e-8a57-2d9e41b7c3aa"
VARIANTS = ("a1", "a2", "b1", "b2")  # state of the cause, detail


@dataclass(frozen=True)
class Item:
    """One item. `gold`: the place of the right option in `options`.

    Not in the files: `kind`, the place of the option of the kind that recurs from frame to frame
    (what holds after the change, what influences, what is welcome, what the push is towards), or
    the first option where no kind does; and `way`, how the cause is worded.
    """

    id: str
    subtask: Subtask
    frame: str
    quad: str
    variant: str
    split: Split
    context: str
    question: str
    options: tuple[str, str]
    gold: int
    kind: int = 0
    way: int = 0

    @property
    def text(self) -> str:
        """All that is read before answering, options included."""
        return "\n\n".join((self.context, self.question, *self.options))


def forge(frames: Sequence[Frame], rotation: int = 0) -> list[Item]:
    """The quads of every frame, sub-task by sub-task; equal frames give equal items.

    `rotation` turns to other ways of writing each cause. Raises ValueError on a cell that is not
    sound (see `faults`).
    """
    found: list[Item] = []
    ordered = sorted(frames, key=lambda frame: frame.name)
    for number, subtask in enumerate(SUBTASKS):
        for place, frame in enumerate(ordered):
            found += _quad(frame, subtask, flipped=(place + number) % 2 == 1, turn=place + rotation)
    return found


def _quad(frame: Frame, subtask: Subtask, *, flipped: bool, turn: int) -> list[Item]:
    cell, way = frame.cells[subtask], turn % WAYS
    names = sorted(cell.options, reverse=flipped)
    by_state = [merged([cell.fixed(), state.facts]) for state in cell.cause]
    quad = f"{frame.name}.{subtask}"
    return [
        Item(
            id=f"{quad}.{variant}",
            subtask=subtask,
            frame=frame.name,
            quad=quad,
            variant=variant,
            split=frame.split,
            context=cell.context(state, detail, way),
            question=" ".join(cell.question.split()),
            options=(cell.options[names[0]].strip(), cell.options[names[1]].strip()),
            gold=names.index(answer(subtask, by_state[state], cell.ask)),
            kind=_recurring(names, cell.fixed(), cell.ask.event),
            way=way,
        )
        for variant, (state, detail) in zip(VARIANTS, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True)
    ]


def _recurring(names: Sequence[str], facts: Facts, event: str | None) -> int:
    """By what the text declares whatever its cause says: where that decides the push itself, the
    push is no kind that recurs.
    """
    kinds = ("influences", "welcome", facts.get("after"), facts.get(f"{event}.toward"))
    for place, name in enumerate(names):
        if name in kinds or names[1 - place] == "unmoved":
            return place
    return 0


def write_items(items: Sequence[Item], folder: Path) -> list[Path]:
    """One JSONL file a sub-task; sealed rows carry the canary. Raises CannotRun where none can be
    written.
    """
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for subtask in SUBTASKS:
            rows = [_row(item) for item in items if item.subtask == subtask]
            paths.append(folder / f"{subtask}.jsonl")
            paths[-1].write_text("".join(rows), "utf-8")
    except OSError as error:
        raise CannotRun(f"{folder}: {error.strerror or error}; name a folder") from error
    return paths


def _row(item: Item) -> str:
    row = asdict(item)
    del row["kind"], row["way"]
    if item.split == "sealed":
        row["canary"] = CANARY
    return json.dumps(row, ensure_ascii=False) + "\n"


def read_items(path: Path) -> list[Item]:
    """The items in one JSONL file. Raises CannotRun with file and line."""
    return _parsed(path.read_text("utf-8"), str(path))


def read_folder(folder: Path) -> list[Item]:
    """The items of every sub-task that a folder has a file of. Raises CannotRun where none."""
    paths = [folder / f"{subtask}.jsonl" for subtask in SUBTASKS]
    found = [item for path in paths if path.is_file() for item in read_items(path)]
    if not found:
        raise CannotRun(f"{folder}: none of {', '.join(path.name for path in paths)} there")
    return found


def shipped() -> list[Item]:
    """Every shipped item, sub-task by sub-task."""
    return read_folder(Path(str(resources.files("supervisor.reflectivity").joinpath("items"))))


def asked_of(folder: Path | None, split: str) -> list[Item]:
    """The items of a split (dev, sealed or all) in `folder`, or of the shipped. Raises CannotRun
    where there is none.
    """
    if split not in ("dev", "sealed", "all"):
        raise CannotRun(f"there is no split '{split}'; give dev, sealed or all")
    every = shipped() if folder is None else read_folder(folder)
    found = [item for item in every if split in ("all", item.split)]
    if not found:
        raise CannotRun(f"no item of the split {split} there")
    return found


def shipped_frames() -> list[Frame]:
    """Every shipped frame, by name."""
    return read_frames(frames_folder())


def frames_folder() -> Path:
    """Where the shipped frames lie."""
    return Path(str(resources.files("supervisor.reflectivity").joinpath("frames")))


def _parsed(text: str, path: str) -> list[Item]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            row.pop("canary", None)
            row["options"] = tuple(row["options"])
            item = Item(**row)
        except (ValueError, TypeError, KeyError) as error:
            raise CannotRun(f"{path}, line {number}: no probing item ({error})") from error
        whole = len(item.options) == 2 and all(str(words).strip() for words in item.options)
        if item.subtask not in SUBTASKS or not whole or item.gold not in (0, 1):
            raise CannotRun(
                f"{path}, line {number}: it needs a sub-task, two options in words, and gold 0 or 1"
            )
        found.append(item)
    return found
