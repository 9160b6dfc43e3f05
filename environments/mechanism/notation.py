"""How settings, actions and answers are written by the laboratory and read from a worker.

    measure length=0.8        an intervention (several quantities: measure A=1 B=2)
    answer: 1.79, 2.4         the predictions, in the order in which they were asked

Reading is lenient in case, spaces and units and strict in everything else: a text is an action
only if it says so, and an answer only if nothing but numbers stands in it, or is what its last
line concludes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

ANSWER_CHARACTERS = 200
REPLY_CHARACTERS = 4_000

_ACTION = re.compile(r"^\W*(measure|answer)\b\s*(.*)$", re.IGNORECASE)
_NUMBER = r"[+-]?(?:\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})(?:[eE][+-]?\d{1,2})?"
_ASSIGNED = re.compile(rf"([A-Za-z_]+)\s*(?:=|:|\bis\b|\bto\b)\s*({_NUMBER})")
_LABEL = re.compile(r"\banswer\s*(?:is\b\s*:?|:|=)", re.IGNORECASE)
_CONCLUSION = re.compile(r"=|\b(?:is|are|equals|approximately|about|of)\b")
# A number may carry a name before it and a unit after it: "period = 1.79 s".
_ITEM = re.compile(rf"^(?:[A-Za-z]+\s*=\s*)?({_NUMBER})\s*(?:1/s|[A-Za-z/%]{{1,5}})?$")


@dataclass(frozen=True)
class Measure:
    """The worker wants a reading at `setting`."""

    setting: Mapping[str, float]


@dataclass(frozen=True)
class Answer:
    """The worker states its predictions."""


def number(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits, never in exponent notation."""
    if value == 0 or not math.isfinite(value):
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def assignments(setting: Mapping[str, float]) -> str:
    """`length=0.8`, the quantities in alphabetical order."""
    return " ".join(f"{name}={number(setting[name], 6)}" for name in sorted(setting))


def read_action(text: str) -> Measure | Answer | None:
    """The first action in `text`, or None where there is none that can be understood."""
    for line in text[:REPLY_CHARACTERS].splitlines():
        found = _ACTION.match(line.strip())
        if not found:
            continue
        if found.group(1).lower() == "answer":
            return Answer()
        pairs = _ASSIGNED.findall(found.group(2))
        leftover = _ASSIGNED.sub("", found.group(2)).strip()
        if not pairs and leftover.strip(". "):
            return None
        return Measure({name: float(value) for name, value in pairs})
    return None


def read_answer(text: str) -> tuple[float, ...] | None:
    """The predictions in a worker's reply, or None for a blank, endless or malformed one.

    They are what follows the last "answer:", or else the last line or what it concludes ("the pH
    is 6.45"); numbers apart by commas.
    """
    if not text.strip() or len(text) > REPLY_CHARACTERS:
        return None
    labels = list(_LABEL.finditer(text))
    tail = text[labels[-1].end() :].strip() if labels else ""
    line = tail.splitlines()[0] if tail else text.strip().splitlines()[-1]
    if len(line) > ANSWER_CHARACTERS:
        return None
    bare = line.strip().strip("*`$ ").removesuffix(".")
    if _ACTION.match(bare) and not labels:  # an intervention is no prediction
        return None
    return _numbers(bare) or _numbers(_CONCLUSION.split(bare)[-1])


def _numbers(line: str) -> tuple[float, ...] | None:
    """The numbers of a line that holds nothing else; None otherwise."""
    values = []
    for part in re.split(r",\s*|;\s*|\s+and\s+", line):
        found = _ITEM.match(part.strip())
        if not found:
            return None
        values.append(float(found.group(1)))
    return tuple(values)
