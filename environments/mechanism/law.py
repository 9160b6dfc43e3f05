"""What every hidden law keeps.

A law draws its hidden constants from the seed alone, says what the world does at a setting
without noise, and how an instrument reads it. It also draws the held-out settings at which a
worker must predict. Does not cover: budgets, prompts and scores, which are the laboratory's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

Hidden = Mapping[str, float]
Setting = Mapping[str, float]


@dataclass(frozen=True)
class Knob:
    """A quantity that the worker sets, and the range over which the apparatus lets it be set."""

    name: str
    low: float
    high: float
    unit: str = ""


@dataclass(frozen=True)
class Question:
    """A held-out point: which output (its index in `outputs`), at which setting."""

    setting: Setting
    output: int = 0


@dataclass(frozen=True)
class Output:
    """A quantity that the instrument shows. `scale` is what an error is divided by.

    `scale` None divides by the size of the truth (relative error); a number divides by that
    number, in the output's unit, where relative error has no meaning (pH, shares, quantities
    that may be zero).
    """

    name: str
    unit: str = ""
    scale: float | None = None


class Law(ABC):
    """A family of worlds that share a form and differ in hidden constants."""

    name: ClassVar[str]
    story: ClassVar[str]
    knobs: ClassVar[tuple[Knob, ...]]
    outputs: ClassVar[tuple[Output, ...]]
    budget: ClassVar[int] = 4
    """Readings at level 1; level 2 has one fewer."""
    questions: ClassVar[int] = 2
    """Held-out points at levels 1 and 2; level 0 has one."""

    @abstractmethod
    def hidden(self, rng: np.random.Generator) -> Hidden:
        """The constants of one world."""

    @abstractmethod
    def truth(self, hidden: Hidden, setting: Setting) -> tuple[float, ...]:
        """What the world does at `setting`, free of noise: one value an output."""

    @abstractmethod
    def given(self, rng: np.random.Generator, hidden: Hidden) -> tuple[list[Setting], Question]:
        """Level 0: the settings whose readings are told, and the point to predict."""

    @abstractmethod
    def held_out(self, rng: np.random.Generator, hidden: Hidden) -> list[Question]:
        """Levels 1 and 2: the points to predict."""

    def noise(self, loud: bool) -> str:
        """How the instrument's noise is described to the worker."""
        return f"{self.sigma(loud):.0%} noise"

    def sigma(self, loud: bool) -> float:
        """Standard deviation of a reading's noise, relative to the truth."""
        return 0.02 if loud else 0.01

    def read(
        self, hidden: Hidden, setting: Setting, loud: bool, rng: np.random.Generator
    ) -> tuple[float, ...]:
        """One reading of each output. `loud` is the noisier instrument of level 2."""
        return tuple(
            value * (1 + self.sigma(loud) * rng.standard_normal())
            for value in self.truth(hidden, setting)
        )

    def refuse(self, setting: Setting, questions: list[Question]) -> str:
        """Why this intervention cannot be made; empty where it can."""
        for knob in self.knobs:
            if knob.name not in setting:
                return f"set {knob.name}"
            if not knob.low <= setting[knob.name] <= knob.high:
                return f"{knob.name} goes from {knob.low:g} to {knob.high:g}{spaced(knob.unit)}"
        unknown = [name for name in setting if name not in {knob.name for knob in self.knobs}]
        if unknown:
            return f"there is no {unknown[0]} to set"
        for question in questions:
            if all(
                abs(setting[knob.name] - question.setting[knob.name])
                < 0.04 * (knob.high - knob.low)
                for knob in self.knobs
            ):
                return "that is too near a point to predict"
        return ""


def spaced(unit: str) -> str:
    """The unit after a number, with its space, or nothing."""
    return f" {unit}" if unit else ""


def grid(rng: np.random.Generator, low: float, high: float, step: float) -> float:
    """One of low, low + step, … up to high, free of binary dust."""
    count = round((high - low) / step)
    return round(low + step * int(rng.integers(0, count + 1)), 6)


def two_apart(rng: np.random.Generator, low: float, high: float, step: float) -> list[float]:
    """Two different grid points."""
    first = grid(rng, low, high, step)
    while (second := grid(rng, low, high, step)) == first:
        pass
    return [first, second]
