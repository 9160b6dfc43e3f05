"""What a worker is told: its goal and its tasks, without seed, reference or verifier.

Does not cover: what it may spend on them (`agents.desk_book`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from environments.protocol import Task
from regent.records import Message


@dataclass(frozen=True)
class TaskBrief:
    """A task as a worker sees it: no seed, no reference, no way to its verifier."""

    index: int
    messages: tuple[Message, ...]
    max_steps: int
    answer_tokens: int


@dataclass(frozen=True)
class Assignment:
    """What a worker is to do: the goal, how, and the tasks that are still open."""

    goal: str
    skill: str
    level: int
    strategy: Literal["attempt", "teach", "explore", "replay"]
    seconds: float
    tasks: tuple[TaskBrief, ...]


def brief_of(task: Task, index: int) -> TaskBrief:
    """What of a task the worker may know."""
    return TaskBrief(index, task.messages, task.max_steps, task.answer_tokens)
