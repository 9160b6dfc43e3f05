"""What is wrong with a frame, in words: what `regent probe validate` says of each.

A cell is sound when both solvers give the answer that each state of the cause is meant to have, the
answer flips with the cause and with nothing else, the text without the cause leaves it open, and
no shallow cue goes with the answer: negation, length and the options' own words are the same
in both states, wording by wording.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from supervisor.reflectivity.frame import WAYS, Cell, Fact, Frame, Subtask, merged
from supervisor.reflectivity.solver import declared, entailed
from supervisor.reflectivity.world import (
    CHANNELS,
    HAPPENINGS,
    PROPERTIES,
    STATUSES,
    TARGETS,
    UNDETERMINED,
    answer,
)

_NEGATION = re.compile(
    r"\b(no|not|never|none|nobody|nothing|nowhere|neither|nor|without|cannot|\w+n['’]t)\b", re.I
)
LENGTHS = 0.15  # options and details: longer over shorter, less one
WAY_LENGTHS = 0.25  # the same for two wordings of the cause
LONGEST, SHORTEST = 1_200, 250  # characters of a context
_COMMON = ENGLISH_STOP_WORDS | {"did", "does", "doing", "having", "yours"}
_DOMAINS: dict[str, tuple[str, ...]] = {
    "status": (*STATUSES, *HAPPENINGS),
    "channel": CHANNELS,
    "acts_on": TARGETS,
    "needs": PROPERTIES,
    "bars": PROPERTIES,
    "due": ("before", "after"),
    "sign": ("with", "against"),
}


def negated(text: str) -> bool:
    """Whether `text` holds a word of negation."""
    return _NEGATION.search(text) is not None


def frame_faults(frame: Frame) -> list[str]:
    """Every fault of a frame, each with its sub-task; empty where it is sound."""
    return [
        f"{subtask}: {fault}"
        for subtask, cell in frame.cells.items()
        for fault in cell_faults(subtask, cell)
    ]


def cell_faults(subtask: Subtask, cell: Cell) -> Iterator[str]:
    """Every fault of one cell."""
    yield from _vocabulary(cell)
    try:
        fixed = cell.fixed()
        golds = [answer(subtask, merged([fixed, s.facts]), cell.ask) for s in cell.cause]
        without = answer(subtask, fixed, cell.ask)
    except ValueError as error:
        yield str(error)
        return
    for letter, gold in zip("ab", golds, strict=True):
        if gold == UNDETERMINED:
            yield f"state {letter} of the cause does not settle the answer (unsolvable)"
        elif gold not in cell.options:
            yield f"state {letter} gives {gold!r}, which is none of {', '.join(cell.options)}"
    if golds[0] == golds[1]:
        yield f"both states of the cause give {golds[0]!r}: the answer must flip with the cause"
    if without != UNDETERMINED:
        yield f"without the cause the answer is already {without!r}: something else gives it away"
    yield from _solvers(subtask, cell, golds)
    yield from _cues(cell)


def _vocabulary(cell: Cell) -> Iterator[str]:
    declared_facts = [said.facts for said in cell.says] + [state.facts for state in cell.cause]
    for facts in declared_facts:
        for key, value in facts.items():
            last = key.rsplit(".", 1)[-1]
            if key.startswith("event.") and last in PROPERTIES and not isinstance(value, bool):
                yield f"{key} is true or false, not {value!r}"
            for one in value if isinstance(value, list) else [value]:
                if last in _DOMAINS and one not in _DOMAINS[last]:
                    yield f"{key}: {one!r} is none of {', '.join(_DOMAINS[last])}"


def _solvers(subtask: Subtask, cell: Cell, golds: list[str]) -> Iterator[str]:
    """The second solver on every wording, and on the text without its cause."""
    for s, (letter, gold) in enumerate(zip("ab", golds, strict=True)):
        for way in range(WAYS):
            for detail in (0, 1):
                found = entailed(subtask, declared(cell, cell.context(s, detail, way)), cell.ask)
                if found != gold:
                    yield (
                        f"state {letter}, way {way + 1}, detail {detail + 1}: the text entails "
                        f"{found!r}, the simulator says {gold!r}"
                    )
    bare: list[tuple[str, Fact]] = [fact for said in cell.says for fact in said.facts.items()]
    if (found := entailed(subtask, bare, cell.ask)) != UNDETERMINED:
        yield f"without the cause the text entails {found!r}"


def _cues(cell: Cell) -> Iterator[str]:
    first, second = cell.options.values()
    yield from _unlike("options", first, second, LENGTHS)
    yield from _unlike("details", cell.detail[0], cell.detail[1], LENGTHS)
    telling = content(first) ^ content(second)  # words of one option only
    for way in range(WAYS):
        one, other = (state.ways[way] for state in cell.cause)
        if negated(one.text) != negated(other.text):
            yield f"way {way + 1}: one state negates and the other does not"
        if (one.stated is None) != (other.stated is None):
            yield f"way {way + 1}: one state is stated, the other inferred"
        yield from _unlike(f"way {way + 1}", one.text, other.text, WAY_LENGTHS)
        if differ := (content(one.text) & telling) ^ (content(other.text) & telling):
            words = ", ".join(sorted(differ))
            yield f"way {way + 1}: words of an option in one state only: {words}"
    if sum(state.ways[w].inferred is not None for state in cell.cause for w in range(WAYS)) < 4:
        yield "fewer than four of the six ways are inferred"
    if not any(negated(cell.cause[0].ways[way].text) for way in range(WAYS)):
        yield "no way of the cause has a negation"
    if all(negated(cell.cause[0].ways[way].text) for way in range(WAYS)):
        yield "every way of the cause has a negation"
    longest = max(len(cell.context(s, d, w)) for s in (0, 1) for d in (0, 1) for w in range(WAYS))
    if not SHORTEST <= longest <= LONGEST:
        yield f"a context of {longest} characters; {SHORTEST} to {LONGEST} are meant"


def _unlike(what: str, one: str, other: str, most: float) -> Iterator[str]:
    short, long = sorted((len(one.strip()), len(other.strip())))
    if long > short * (1 + most):
        yield f"{what}: {long} characters beside {short} (at most {most:.0%} longer)"


def content(text: str) -> set[str]:
    """Content words, cut to five letters, so that endings do not hide them."""
    words = re.findall(r"[a-z]+", text.lower())
    return {word[:5] for word in words if word not in _COMMON and len(word) > 2}
