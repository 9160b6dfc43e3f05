"""A model proposes frames, or new wordings for one; what passes every gate is written for a person.

Sealed frames stand in no prompt, and nothing is written among the shipped frames. A proposal is a
development frame, marked with who wrote it; a file that is there already is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from regent.errors import CannotRun
from regent.models.speaker import Speaker
from regent.records import canonical_json, digest
from supervisor.reflectivity.admission import Known, in_set, known, refusals
from supervisor.reflectivity.attempts import Attempts, Notes
from supervisor.reflectivity.drafts import (
    CellForm,
    Premise,
    WaysForm,
    asks_cell,
    asks_premise,
    asks_ways,
    cell_of,
    reworded,
)
from supervisor.reflectivity.faults import frame_faults
from supervisor.reflectivity.filing import others_in, tidy, write_frame
from supervisor.reflectivity.frame import SUBTASKS, Cell, Frame, Proposed, Subtask, read_frame
from supervisor.reflectivity.items import shipped_frames
from supervisor.reflectivity.kept import Kept
from supervisor.reflectivity.validation import Gate

CONTEXT = 8_192  # tokens that a local model is given: the longest question and its reply
_EXAMPLES = 2
_LONGEST_SUBJECT = 60


@dataclass(frozen=True)
class Outcome:
    """What became of one proposal. `refused`: why it, or a part of it, was not taken, with figures;
    `again`: what was wrong with replies that were asked for once more. `frame`: what is taken.
    """

    number: int
    name: str
    refused: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()
    frame: Frame | None = None


@dataclass(frozen=True)
class Source:
    """Who writes and who reads, each with the name that it was called by; and the seed."""

    writer: Kept
    reader: Kept
    model: str
    read_by: str
    seed: int = 0

    @property
    def alone(self) -> bool:
        """Whether the reader is the one that writes."""
        return self.writer.name == self.reader.name

    @property
    def tokens(self) -> int:
        """What their replies cost, kept ones included."""
        return sum({kept.name: kept.tokens for kept in (self.writer, self.reader)}.values())

    def request(self, subject: Sequence[str]) -> str:
        """Names by content what is asked of whom."""
        asked = [self.writer.name, self.reader.name, self.seed, *subject]
        return digest(canonical_json(asked))[:24]

    def attempts(self, mark: Proposed, there: Known, notes: Notes) -> Attempts:
        """For the pieces of one proposal."""
        return Attempts(self.writer, self.reader, (self.seed, mark.number), there, notes)


@dataclass(frozen=True)
class Subject:
    """What is asked for: new wordings of `frame`, or new frames of a domain and a genre."""

    frame: Frame | None = None
    domain: str = ""
    genre: str = ""


def source_of(
    model: str, reader: str, seed: int, speaker: Callable[[str], Speaker], folder: Path
) -> Source:
    """Speakers by name, their replies kept in `folder`. Raises CannotRun as `speaker` does."""
    writer = Kept(speaker(model), folder / "asked")
    other = writer if reader == model else Kept(speaker(reader), folder / "asked")
    return Source(writer, writer if other.name == writer.name else other, model, reader, seed)


def subject_of(frame: str, domain: str, genre: str) -> Subject:
    """From what a person names: a shipped frame or a YAML file, or else a domain and a genre.

    Raises CannotRun on anything else.
    """
    if frame and not (domain or genre):
        return Subject(_named(frame))
    if frame or not (domain and genre):
        raise CannotRun("give --frame to word one anew, or --domain and --genre for new frames")
    for said in (domain, genre):
        if len(said) > _LONGEST_SUBJECT or not said.isprintable() or not said.strip():
            raise CannotRun(f"a domain and a genre are one line of {_LONGEST_SUBJECT} characters")
    return Subject(domain=domain, genre=genre)


def propose(
    source: Source, subject: Subject, n: int, out: Path, shipped: Sequence[Frame] | None = None
) -> Iterator[Outcome]:
    """`n` proposals, each written to `out` as it passes; `shipped`: in place of the shipped frames.

    Raises CannotRun where a server fails: what passed before stays, and the same call goes on
    from there.
    """
    stand = shipped_frames() if shipped is None else shipped
    if subject.frame is not None:
        return _rewordings(source, subject.frame, n, stand, out)
    return _new_frames(source, subject.domain, subject.genre, n, stand, out)


def _new_frames(
    source: Source, domain: str, genre: str, n: int, shipped: Sequence[Frame], out: Path
) -> Iterator[Outcome]:
    """Each must pass beside the shipped ones, those in `out`, and those that passed before it."""
    request = source.request([domain, genre])
    there = [*shipped, *others_in(out, request)]
    for number in range(1, n + 1):
        mark = _mark(source, request, number)
        outcome = _new(source, domain, genre, mark, known(there))
        if outcome.frame is not None:
            write_frame(outcome.frame, out)
            there.append(outcome.frame)
        yield outcome


def _rewordings(
    source: Source, frame: Frame, n: int, shipped: Sequence[Frame], out: Path
) -> Iterator[Outcome]:
    """New wordings for the cause of each cell; what is taken is the frame with those that passed,
    to be used in its place.
    """
    twin = any(one.name == frame.name and one.split == "sealed" for one in shipped)
    if frame.split == "sealed" or twin:
        raise CannotRun(f"{frame.name} is sealed: no model is shown it; name a development frame")
    for fault in frame_faults(frame):
        raise CannotRun(f"{frame.name}: {fault}; mend it before it is reworded")
    request = source.request([digest(frame.model_dump_json().encode())])
    beside = [*shipped, *others_in(out, request)]
    there = known([one for one in beside if one.name != frame.name])
    for number in range(1, n + 1):
        mark = _mark(source, request, number).model_copy(update={"rewords": frame.name})
        outcome = _reworded(source, frame, mark, there)
        if outcome.frame is not None:
            write_frame(outcome.frame, out)
        yield outcome


def _new(source: Source, domain: str, genre: str, mark: Proposed, there: Known) -> Outcome:
    notes = Notes()
    taken = {frame.name for frame in there.frames}

    def free(premise: Premise) -> Iterator[str]:
        if not _slug(premise.name):
            yield "its name has no letters"
        if _slug(premise.name) in taken:
            yield f"the name {_slug(premise.name)} is taken by another frame"

    attempts = source.attempts(mark, there, notes)
    told = [frame.name for frame in _dev(there)]
    asked = asks_premise(domain, genre, told)
    premise = attempts.piece("name", asked, Premise, lambda form: form, free)
    if premise is None:
        return _outcome(mark, "", notes)
    name = _slug(premise.name)
    examples = _examples(there, genre, mark)
    cells: dict[Subtask, Cell] = {}
    for subtask in SUBTASKS:
        written = list(cells.values())
        asked = asks_cell(subtask, premise, domain, genre, written, examples)
        cell = attempts.cell(subtask, asked, CellForm, lambda form: tidy(cell_of(form)))
        if cell is None:
            return _outcome(mark, name, notes)
        cells[subtask] = cell
    frame = Frame(
        name=name,
        domain=domain,
        genre=genre,
        about_ai=premise.about_ai,
        split="dev",
        proposed=mark,
        cells=cells,
    )
    return _admitted(frame, mark, there, notes)


def _reworded(source: Source, frame: Frame, mark: Proposed, there: Known) -> Outcome:
    notes = Notes()
    name = f"{frame.name}-{mark.request[:6]}-{mark.number}"
    attempts = source.attempts(mark, there, notes)
    cells: dict[Subtask, Cell] = {}
    for subtask, old in frame.cells.items():
        cell = attempts.cell(subtask, asks_ways(old), WaysForm, partial(reworded, old), old)
        if cell is not None:
            cells[subtask] = cell
    if not cells:
        return _outcome(mark, name, notes)
    fresh = frame.model_copy(
        update={
            "name": name,
            "split": "dev",
            "proposed": mark.model_copy(update={"cells": tuple(cells)}),
            "cells": {**frame.cells, **cells},
        }
    )
    return _admitted(fresh, mark, there, notes)


def _admitted(frame: Frame, mark: Proposed, there: Known, notes: Notes) -> Outcome:
    gates = in_set(frame, there)
    notes.gates += gates
    failed = refusals(gates)
    notes.refused += failed
    return _outcome(mark, frame.name, notes, None if failed else frame)


def _outcome(mark: Proposed, name: str, notes: Notes, frame: Frame | None = None) -> Outcome:
    told = (tuple(notes.refused), tuple(notes.again), tuple(notes.gates))
    return Outcome(mark.number, name, *told, frame)


def _named(name: str) -> Frame:
    if name.endswith((".yaml", ".yml")):
        return read_frame(Path(name))
    for frame in shipped_frames():
        if frame.name == name:
            return frame
    raise CannotRun(f"no shipped frame is called '{name}'; name one, or give a frame's YAML file")


def _examples(there: Known, genre: str, mark: Proposed) -> list[Frame]:
    """Development frames, one of the genre where there is one."""
    dev = _dev(there)
    rng = np.random.default_rng([mark.seed, mark.number])
    order = [dev[int(i)] for i in rng.permutation(len(dev))]
    first = min(order, key=lambda frame: frame.genre != genre)
    return [first, *(frame for frame in order if frame is not first)][:_EXAMPLES]


def _dev(there: Known) -> list[Frame]:
    """What a prompt may show: not sealed, and no model's unread proposal."""
    return [one for one in there.frames if one.split == "dev" and one.proposed is None]


def _mark(source: Source, request: str, number: int) -> Proposed:
    return Proposed(
        model=source.model,
        reader=source.read_by,
        request=request,
        seed=source.seed,
        number=number,
    )


def _slug(name: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))
