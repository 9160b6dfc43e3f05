"""Asking for one piece of a proposal until code finds nothing wrong with it, or leaving it out.

A reply that is cut, does not parse or is faulty is asked for again, at most `TRIES` times in all,
each time with another seed and temperature, and with what was wrong where the reply could be read.
What the reader finds is told to nobody who writes: a cell that it reads otherwise is left out at
once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from regent.errors import CannotRun
from regent.models.speaker import Conversation, Reply, Sampling, Speaker
from supervisor.reflectivity.admission import COPIES, Known, cell_complaints, reading, refusals
from supervisor.reflectivity.drafts import CellForm, Premise, WaysForm, asks_again
from supervisor.reflectivity.frame import Cell, Subtask
from supervisor.reflectivity.validation import Gate
from supervisor.reflectivity.written import first_fault

TEMPERATURES = (0.7, 0.9, 1.0, 0.8)
TRIES = len(TEMPERATURES)
# Several times what a shipped frame takes; a reply that runs on is cut, and asked for again.
_TOKENS: dict[type[BaseModel], int] = {Premise: 300, CellForm: 2_500, WaysForm: 900}
_LINE = 240  # characters of one complaint
Form = TypeVar("Form", bound=BaseModel)
Made = TypeVar("Made")


@dataclass
class Notes:
    """What is found on the way: why something was left out, what was asked for again, figures."""

    refused: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)


@dataclass(frozen=True)
class _Read(Generic[Made]):
    """A reply: what it holds, what is wrong with it, and whether its writer may see it again."""

    made: Made | None
    wrong: list[str]
    shown: bool = True


@dataclass(frozen=True)
class Attempts:
    """The pieces of one proposal. `place`: names it, for its seeds."""

    writer: Speaker
    reader: Speaker
    place: tuple[int, ...]
    there: Known
    notes: Notes

    def cell(
        self,
        subtask: Subtask,
        asked: Conversation,
        form: type[Form],
        make: Callable[[Form], Cell],
        before: Cell | None = None,
    ) -> Cell | None:
        """A cell without a fault that the reader reads as declared; None where none came."""

        def complain(made: Cell) -> Iterator[str]:
            return cell_complaints(subtask, made, self.there, before)

        cell = self.piece(subtask, asked, form, make, complain)
        if cell is None:
            return None
        gates = reading(self.reader, subtask, cell)
        self.notes.gates += gates
        failed = refusals(gates)
        self.notes.refused += failed
        return None if failed else cell

    def piece(
        self,
        what: str,
        asked: Conversation,
        form: type[Form],
        make: Callable[[Form], Made],
        complain: Callable[[Made], Iterator[str]],
    ) -> Made | None:
        """What a reply of this form makes, once there is no complaint; None where none came.

        Raises CannotRun where what is asked would show a model words of the sealed part.
        """
        rng = np.random.default_rng([*self.place, *what.encode()])
        conversation = asked
        wrong: list[str] = []
        for temperature in TEMPERATURES:
            self.notes.again += wrong
            if any(self.there.holds_sealed(_spoken(turn.content)) for turn in conversation):
                raise CannotRun(
                    "the frame holds words of the sealed part, which no model is shown; "
                    "name another"
                )
            how = Sampling(
                max_tokens=_TOKENS[form],
                temperature=temperature,
                seed=int(rng.integers(2**31)),
                json_schema=form.model_json_schema(),
            )
            (reply,) = self.writer.sample([conversation], how)
            read = self._read(reply, form, make, complain)
            if read.made is not None and not read.wrong:
                return read.made
            wrong = [f"{what}: {_line(one)}" for one in read.wrong]
            conversation = asks_again(asked, reply.text, wrong) if read.shown else asked
        self.notes.refused += [f"{one}; left out after {TRIES} replies" for one in wrong]
        return None

    def _read(
        self,
        reply: Reply,
        form: type[Form],
        make: Callable[[Form], Made],
        complain: Callable[[Made], Iterator[str]],
    ) -> _Read[Made]:
        if reply.finish == "length":
            return _Read(None, ["the reply was cut at the token limit"], shown=False)
        if self.there.holds_sealed(_spoken(reply.text)):
            return _Read(None, [COPIES], shown=False)
        try:
            made = make(form.model_validate(json.loads(reply.text)))
        except ValidationError as error:
            return _Read(None, [first_fault(error)])
        except (json.JSONDecodeError, RecursionError):
            return _Read(None, ["the reply is no JSON"], shown=False)
        except ValueError as error:
            return _Read(None, [str(error)])
        return _Read(made, list(complain(made)))


def _spoken(text: str) -> str:
    """JSON's line breaks are no words."""
    return text.replace("\\n", " ")


def _line(text: str) -> str:
    """A complaint may quote a proposal: one line of what prints, and not much of it."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))[:_LINE]
