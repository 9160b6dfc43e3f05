"""A frame: one situation, written by hand, with a cell for each of the five sub-tasks.

A cell is a text with two slots, a question and two options. `{cause}` takes one of two states of
the causal variable, each written in three ways; `{detail}` takes one of two irrelevant details.
What the text declares is noted beside it: verbatim quotes with the facts that they state, and the
facts of each state of the cause. Gold answers follow from them (`world`, and again `solver`).

Frames are YAML, one a file. `read_frame` refuses what it cannot use with one line that names the
file and the place.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import Field, model_validator

from regent.errors import CannotRun
from supervisor.reflectivity.written import Written, read_written

Subtask = Literal[
    "own_vs_others",
    "current_vs_future",
    "influence_identification",
    "influence_prediction",
    "influence_desirability",
]
SUBTASKS: tuple[Subtask, ...] = get_args(Subtask)
Split = Literal["dev", "sealed"]
Difficulty = Literal[
    "plain",
    "no_cause",
    "emotive",
    "misattributed",
    "half_shift",
    "reverted",
    "planned",
    "pleasant_illegitimate",
    "unpleasant_legitimate",
]
Fact = bool | str | list[str]
Facts = dict[str, Fact]
WAYS = 3  # of writing each state of the cause


class Way(Written):
    """One wording of a state of the cause: said outright, or left to be inferred."""

    stated: str | None = None
    inferred: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.stated is None) == (self.inferred is None):
            raise ValueError("a way is either `stated:` or `inferred:`")
        if not self.text.strip():
            raise ValueError("a way has no words")
        return self

    @property
    def text(self) -> str:
        return (self.stated or self.inferred or "").strip()


class State(Written):
    """One state of the causal variable: its facts, and three ways of writing it."""

    facts: Facts = Field(min_length=1)
    ways: tuple[Way, ...]

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if len(self.ways) < WAYS:
            raise ValueError(f"a state of the cause has {len(self.ways)} ways; it needs {WAYS}")
        return self


class Said(Written):
    """Words of the text, verbatim, and the facts that they declare."""

    quote: str = Field(min_length=3)
    facts: Facts = Field(min_length=1)


class Ask(Written):
    """The query: about whom, about which event or events, between which values, and when."""

    agent: str = "you"
    event: str | None = None
    events: tuple[str, str] | None = None
    values: tuple[str, str] | None = None
    time: Literal["now", "later"] = "now"


class Cell(Written):
    """One sub-task in a frame. `options`: what each of two answers is called, and its words."""

    difficulty: Difficulty
    text: str
    says: tuple[Said, ...]
    cause: tuple[State, State]
    detail: tuple[str, str]
    ask: Ask
    question: str
    options: dict[str, str]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for slot in ("{cause}", "{detail}"):
            if self.text.count(slot) != 1:
                raise ValueError(f"the text needs {slot} exactly once")
        if len(self.options) != 2:
            raise ValueError(f"{len(self.options)} options; there are two")
        if not all(words.strip() for words in self.options.values()):
            raise ValueError("an option has no words")
        flat = " ".join(self.text.split())
        for said in self.says:
            if " ".join(said.quote.split()) not in flat:
                raise ValueError(f"the text does not hold the quote “{said.quote}”")
        return self

    def context(self, state: int, detail: int, way: int) -> str:
        """The text with its slots filled, single spaces within a paragraph."""
        return self._filled(self.cause[state].ways[way].text, detail)

    def bare(self, detail: int) -> str:
        """The same without its cause, which should leave the question open."""
        return self._filled("", detail)

    def _filled(self, cause: str, detail: int) -> str:
        filled = self.text.replace("{cause}", cause)
        filled = filled.replace("{detail}", self.detail[detail].strip())
        paragraphs = [" ".join(part.split()) for part in filled.split("\n\n")]
        return "\n\n".join(part for part in paragraphs if part)

    def fixed(self) -> Facts:
        """What the text declares whatever the slots hold. Raises ValueError on a contradiction."""
        return merged(said.facts for said in self.says)


class Proposed(Written):
    """Where a frame came from that a model wrote: not read by a person yet.

    `request` names by content all that was asked (models, subject, examples' seed), `number` which
    of its proposals this is. `rewords`: the frame of which only the causes of `cells` are new, or
    empty for a frame that is new altogether.
    """

    model: str
    reader: str
    request: str
    seed: int
    number: int
    rewords: str = ""
    cells: tuple[Subtask, ...] = SUBTASKS


class Frame(Written):
    """One situation with its five cells. `proposed` is there where a model wrote it."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    domain: str
    genre: str
    about_ai: bool
    split: Split
    proposed: Proposed | None = None
    cells: dict[Subtask, Cell]

    @model_validator(mode="after")
    def _five(self) -> Self:
        if missing := [name for name in SUBTASKS if name not in self.cells]:
            raise ValueError(f"no cell for {', '.join(missing)}")
        return self


def merged(parts: Any) -> Facts:
    """All facts of `parts`. Raises ValueError where two say different things of one."""
    found: Facts = {}
    for part in parts:
        for key, value in part.items():
            if key in found and found[key] != value:
                raise ValueError(f"contradictory facts: {key} is {found[key]} and {value}")
            found[key] = value
    return found


def read_frame(path: Path) -> Frame:
    """The frame in a file. Raises CannotRun with the file and the place."""
    shape = "a frame is a mapping with name, domain, genre and cells"
    frame = read_written(path, Frame, shape)
    if frame.name != path.stem:
        raise CannotRun(f"{path}: its name is {frame.name!r}; call the file {frame.name}.yaml")
    return frame


def read_frames(folder: Path) -> list[Frame]:
    """Every frame in a folder, by name. Raises CannotRun on none, or on two of one name."""
    return [read_frame(path) for path in _paths(folder)]


def read_what_can(folder: Path) -> tuple[list[Frame], list[str]]:
    """Every frame in a folder that can be read, and a line on each that cannot."""
    frames, refused = [], []
    for path in _paths(folder):
        try:
            frames.append(read_frame(path))
        except CannotRun as error:
            refused.append(str(error))
    return frames, refused


def _paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise CannotRun(f"{folder}: no folder; give one that holds frames (*.yaml)")
    paths = sorted(folder.rglob("*.yaml"), key=lambda path: path.stem)
    if not paths:
        raise CannotRun(f"{folder}: no frames (*.yaml) there")
    for one, other in pairwise(paths):
        if one.stem == other.stem:
            raise CannotRun(f"{one} and {other} have one name; rename one")
    return paths
