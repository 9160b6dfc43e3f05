"""The laboratory as an environment: prompts, episodes and verification.

Levels. 0: readings are told and one held-out point is asked (one turn). 1: the worker chooses
`budget` interventions and then predicts at two held-out points. 2: the same with a noisier
instrument and one reading fewer.

Scores. The error at a point is |answer − truth| over the output's scale: the truth itself, or 2
pH, a share of 0.8 or 10 units of a causal quantity. Within TOLERANCE (5 %) it is right (1);
beyond it credit falls evenly from PARTIAL to 0 at six times the tolerance. An episode's score is
the mean over its points, so it is 1 only where all are right. A least-squares
fit to well-chosen readings stays within the tolerance in 99 of 100 episodes of level 1 and 96 of
100 of level 2; the truth of another world of the same law does so in at most 3 of 100.

Hidden constants come from the seed alone; noise from the seed, the level and the reading's
number, so an episode's world can be rebuilt from its reference. Does not cover: laws stated as
formulas; a law is judged by what it predicts.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np

from environments.mechanism.chance import BiasedProcess, CausalGraph
from environments.mechanism.chemistry import ReactionRate, Titration
from environments.mechanism.law import Hidden, Law, Question, Setting, spaced
from environments.mechanism.notation import (
    Answer,
    assignments,
    number,
    read_action,
    read_answer,
)
from environments.mechanism.physics import Circuit, Lens, Pendulum, Spring
from environments.protocol import Observation, Session, Task
from regent.errors import CannotRun
from regent.records import Message, TaskRef

TOLERANCE = 0.05
PARTIAL = 0.95
LEVELS = 3
LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        Pendulum(),
        Spring(),
        Titration(),
        ReactionRate(),
        Lens(),
        Circuit(),
        CausalGraph(),
        BiasedProcess(),
    )
}


@dataclass(frozen=True)
class World:
    """One task's hidden state: never given to a worker."""

    ref: TaskRef
    law: Law
    hidden: Hidden
    told: tuple[Setting, ...]
    questions: tuple[Question, ...]

    @property
    def loud(self) -> bool:
        return self.ref.level == 2

    @property
    def budget(self) -> int:
        """Readings that the worker may choose."""
        return 0 if self.ref.level == 0 else self.law.budget - (self.ref.level - 1)

    def reading(self, setting: Setting, index: int) -> str:
        """What the instrument shows as reading number `index`."""
        noise = _rng(self.ref, self.ref.level, 2, index)
        values = self.law.read(self.hidden, setting, self.loud, noise)
        return ", ".join(
            f"{output.name}={number(value)}{spaced(output.unit)}"
            for output, value in zip(self.law.outputs, values, strict=True)
            if output.name not in setting
        )

    def truths(self) -> tuple[float, ...]:
        """The noise-free value at each held-out point."""
        return tuple(self.law.truth(self.hidden, q.setting)[q.output] for q in self.questions)


class Mechanism:
    """Eight laws with hidden constants, each at three levels."""

    name = "mechanism"

    def __init__(self) -> None:
        self.skills: dict[str, int] = dict.fromkeys(LAWS, LEVELS)

    def task(self, ref: TaskRef) -> Task:
        world = _world(ref)
        message = Message(role="user", content=_prompt(world))
        return Task(ref, (message,), max_steps=world.budget + 1)

    def reset(self, ref: TaskRef) -> Session:
        return Episode(_world(ref))

    def verify(self, ref: TaskRef, answer: str) -> float:
        """Mean over the held-out points; 0 where the reply does not state one number for each."""
        world = _world(ref)
        stated = read_answer(answer)
        if stated is None or len(stated) != len(world.questions):
            return 0.0
        scores = [
            credit(error(value, truth, world.law.outputs[question.output].scale))
            for value, truth, question in zip(stated, world.truths(), world.questions, strict=True)
        ]
        return sum(scores) / len(scores)

    def solution(self, ref: TaskRef) -> str:
        world = _world(ref)
        values = ", ".join(number(truth) for truth in world.truths())
        return values if world.budget == 0 else f"answer: {values}"


@dataclass
class Episode:
    """One worker at one world. Every step counts, valid or not."""

    world: World
    steps: int = 0
    done: bool = False
    readings: list[str] = field(default_factory=list)

    def step(self, action: str) -> Observation:
        """Take a reading, hear the answer, or say in one line why the action is invalid."""
        if self.done:
            return Observation("The episode is over.", done=True, valid=False)
        self.steps += 1
        left = self.world.budget + 1 - self.steps
        self.done = left <= 0
        wanted = read_action(action)
        if self.world.budget == 0 or isinstance(wanted, Answer):
            self.done = True
            valid = read_answer(action) is not None
            return Observation("" if valid else "Invalid: state a number.", True, valid)
        ending = f" {_count(left - 1)} left." if left > 1 else f" Now {_form(self.world)}"
        if wanted is None:
            example = f"measure {assignments(_example(self.world))}"
            return self._invalid(f"say '{example}' or '{_form(self.world)}'", ending)
        if self.done:
            return self._invalid("no readings are left", "")
        reason = self.world.law.refuse(wanted.setting, list(self.world.questions))
        if reason:
            return self._invalid(reason, ending)
        shown = self.world.reading(wanted.setting, len(self.readings))
        self.readings.append(shown)
        return Observation(f"{shown}.{ending}", done=False)

    def _invalid(self, reason: str, ending: str) -> Observation:
        text = "The episode is over." if self.done else f"Invalid: {reason}.{ending}"
        return Observation(text, done=self.done, valid=False)


def error(value: float, truth: float, scale: float | None) -> float:
    """|value − truth| over the scale, or over |truth| where the scale is None."""
    return abs(value - truth) / (abs(truth) if scale is None else scale)


def credit(relative: float) -> float:
    """1 up to TOLERANCE, then evenly from PARTIAL down to 0 at six times TOLERANCE."""
    if relative <= TOLERANCE:
        return 1.0
    return PARTIAL * max(0.0, 1 - (relative - TOLERANCE) / (5 * TOLERANCE))


def _prompt(world: World) -> str:
    law = world.law
    asked = _asked(world)
    if world.budget == 0:
        told = "\n".join(
            f"{assignments(setting)}{_only_unit(law)}: {world.reading(setting, index)}"
            for index, setting in enumerate(world.told)
        )
        return (
            f"{law.story} Readings ({law.noise(world.loud)}):\n{told}\n"
            f"Predict {asked}. Give only the number."
        )
    ranges = ", ".join(
        f"{knob.name} {knob.low:g} to {knob.high:g}{spaced(knob.unit)}" for knob in law.knobs
    )
    return (
        f"{law.story} You may take {world.budget} readings ({law.noise(world.loud)}), one a reply: "
        f"measure {assignments(_example(world))} ({ranges}).\n"
        f"Then predict {asked}. Reply then: {_form(world)}"
    )


def _asked(world: World) -> str:
    """`period in s at length=1.5 m and at length=3 m`."""
    phrases: list[str] = []
    named = -1
    for question in world.questions:
        output = world.law.outputs[question.output]
        what = "" if question.output == named else f"{output.name}{_in_unit(output.unit)} "
        phrases.append(f"{what}at {assignments(question.setting)}{_only_unit(world.law)}")
        named = question.output
    return " and ".join(phrases)


def _count(readings: int) -> str:
    return "1 reading" if readings == 1 else f"{readings} readings"


def _form(world: World) -> str:
    return "answer: " + ", ".join("NUMBER" for _ in world.questions)


def _example(world: World) -> Setting:
    first = world.law.knobs[0]
    return {first.name: round((first.low + first.high) / 2, 2)}


def _only_unit(law: Law) -> str:
    return spaced(law.knobs[0].unit) if len(law.knobs) == 1 else ""


def _in_unit(unit: str) -> str:
    return f" in {unit}" if unit else ""


def _world(ref: TaskRef) -> World:
    law = LAWS.get(ref.skill)
    if law is None:
        raise CannotRun(f"mechanism has no skill '{ref.skill}'; `regent env list` shows them")
    if ref.level >= LEVELS:
        raise CannotRun(
            f"mechanism/{ref.skill} has levels 0 to {LEVELS - 1}, not {ref.level}; choose one"
        )
    hidden = law.hidden(_rng(ref, 0))
    draw = _rng(ref, ref.level, 1)
    if ref.level == 0:
        told, question = law.given(draw, hidden)
        return World(ref, law, hidden, tuple(told), (question,))
    return World(ref, law, hidden, (), tuple(law.held_out(draw, hidden)))


def _rng(ref: TaskRef, *stream: int) -> np.random.Generator:
    """A stream of the task's own: its skill, its seed and the stream's numbers."""
    return np.random.default_rng([zlib.crc32(ref.skill.encode()), ref.seed, *stream])
