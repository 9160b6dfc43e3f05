"""Is a set of frames fit to be asked? Every gate with its figure and its threshold.

Sees: wrong gold, cues that give an answer away, imbalance, sameness, duplicates. Does not see:
whether prose is good, nor whether a reader would draw each inference; thirty items in
docs/reflectivity.md are there to be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from supervisor.reflectivity.faults import LENGTHS, frame_faults
from supervisor.reflectivity.frame import SUBTASKS, Frame
from supervisor.reflectivity.items import Item, forge
from supervisor.reflectivity.leakage import leaks
from supervisor.reflectivity.solver import declared, entailed
from supervisor.reflectivity.variety import (
    DISTINCT,
    MEDIAN,
    NINETY_FIFTH,
    distinct_bigrams,
    nearest,
    normalised,
)

_ROUNDING = 1e-9
FEWEST_FRAMES = (
    20  # below, accuracies of shallow solvers say nothing, and are not held against a set
)


@dataclass(frozen=True)
class Gate:
    """One gate: what it measures, the figure, and the bar (`most`: at most; else at least)."""

    name: str
    subtask: str
    figure: float
    bar: float
    most: bool = True
    blind: bool = False

    @property
    def holds(self) -> bool:
        if self.blind:
            return True
        if self.most:
            return self.figure <= self.bar + _ROUNDING
        return self.figure >= self.bar - _ROUNDING


@dataclass(frozen=True)
class Validation:
    """All gates of a set, and the faults of single frames in words."""

    gates: tuple[Gate, ...]
    faults: tuple[str, ...]
    frames: int
    items: int

    @property
    def holds(self) -> bool:
        return not self.faults and all(gate.holds for gate in self.gates)


def validate(
    frames: Sequence[Frame], items: Sequence[Item] | None = None, faults: Sequence[str] = ()
) -> Validation:
    """Every gate on `frames`, and on `items` in place of those that the forge makes of them.

    `faults`: what is known to be wrong already, such as frames that cannot be read.
    """
    faults = [*faults]
    faults += [f"{frame.name}: {fault}" for frame in frames for fault in frame_faults(frame)]
    faulty = {fault.split(":", 1)[0] for fault in faults}
    sound = [frame for frame in frames if frame.name not in faulty]
    given = list(items) if items is not None else forge(sound)
    gates = [Gate("faults of frames", "all", float(len(faults)), 0.0)]
    if given:
        gates += _agreement(given, {frame.name: frame for frame in sound})
        gates += _balance(given)
        gates += _shallow(given)
        gates += _sameness(given)
    return Validation(tuple(gates), tuple(faults), len(frames), len(given))


def _agreement(items: Sequence[Item], frames: dict[str, Frame]) -> list[Gate]:
    """How many items the second solver answers otherwise, or cannot place."""
    wrong = 0
    for item in items:
        frame = frames.get(item.frame)
        if frame is None:
            wrong += 1
            continue
        cell = frame.cells[item.subtask]
        found = entailed(item.subtask, declared(cell, item.context), cell.ask)
        wrong += cell.options.get(found, "").strip() != item.options[item.gold]
    flips = 0
    for rows in _quads(items).values():
        gold = {item.variant: item.options[item.gold] for item in rows}
        flips += not (
            gold.get("a1") == gold.get("a2") != gold.get("b1") == gold.get("b2")
            and len({item.options for item in rows}) == 1
        )
    return [
        Gate("second solver disagrees", "all", float(wrong), 0.0),
        Gate("quads that do not flip", "all", float(flips), 0.0),
    ]


def _balance(items: Sequence[Item]) -> list[Gate]:
    gates = []
    for subtask in SUBTASKS:
        own = [item for item in items if item.subtask == subtask]
        if own:
            first = sum(item.gold == 0 for item in own) / len(own)
            gap = max(max(map(len, i.options)) / min(map(len, i.options)) - 1 for i in own)
            gates += [
                Gate("gold position off one half", subtask, abs(first - 0.5), 0.0),
                Gate("option length gap", subtask, gap, LENGTHS),
            ]
    return gates


def _shallow(items: Sequence[Item]) -> list[Gate]:
    gates = []
    for subtask in SUBTASKS:
        own = [item for item in items if item.subtask == subtask]
        few = len({item.frame for item in own}) < FEWEST_FRAMES
        if own:
            gates += [
                Gate(name, subtask, share, bar, blind=few)
                for name, (share, bar) in leaks(own).items()
            ]
    return gates


def _sameness(items: Sequence[Item]) -> list[Gate]:
    one = [item for item in items if item.variant == "a1"]
    median, ninety_fifth = nearest(one)
    times = Counter(normalised(item.text) for item in items)
    return [
        Gate("nearest frame, trigrams", "all", median, MEDIAN),
        Gate("the same, 95th percentile", "all", ninety_fifth, NINETY_FIFTH),
        *(
            Gate(
                "distinct bigrams",
                subtask,
                distinct_bigrams([i for i in one if i.subtask == subtask]),
                DISTINCT,
                most=False,
            )
            for subtask in SUBTASKS
            if any(item.subtask == subtask for item in one)
        ),
        Gate("items twice", "all", float(len(items) - len(times)), 0.0),
    ]


def _quads(items: Sequence[Item]) -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.quad, []).append(item)
    return found
