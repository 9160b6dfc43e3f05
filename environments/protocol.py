"""What every environment keeps: tasks from a seed; reset, step, verify.

A verifier returns a finite score in [0, 1] and runs outside the worker's reach: it is given the
task's reference and the worker's final answer, and regenerates the truth from the seed itself,
so nothing that a worker holds or writes can change its own score.

Anyone adds an environment from a package of their own through the entry-point group
`regent.environments`, whose value is a callable without arguments returning an `Environment`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from regent.records import Message, TaskRef


@dataclass(frozen=True)
class Task:
    """A task as a worker meets it: what it is told, and how many steps it may take.

    `single_turn` tasks are answered at once (no instrument to read); others take `step`s first.
    """

    ref: TaskRef
    messages: tuple[Message, ...]
    max_steps: int = 1
    answer_tokens: int = 24

    @property
    def single_turn(self) -> bool:
        return self.max_steps == 1


@dataclass(frozen=True)
class Observation:
    """What the world answers to an action: text for the worker, and whether the episode is over."""

    text: str
    done: bool
    valid: bool = True


class Session(Protocol):
    """One episode. Holds the world's hidden state; lives outside the worker."""

    def step(self, action: str) -> Observation: ...


class Environment(Protocol):
    """A family of worlds. `skills` maps each skill to its number of difficulty levels."""

    name: str
    skills: dict[str, int]

    def task(self, ref: TaskRef) -> Task:
        """The task that `ref` names; the same every time.

        Raises CannotRun on an unknown skill or level.
        """
        ...

    def reset(self, ref: TaskRef) -> Session:
        """A fresh episode of the task."""
        ...

    def verify(self, ref: TaskRef, answer: str) -> float:
        """Score of `answer` in [0, 1], finite; 0 for empty, endless or malformed answers."""
        ...

    def solution(self, ref: TaskRef) -> str:
        """What the world answers: the target text that `verify` scores at 1.0, at its tersest."""
        ...
