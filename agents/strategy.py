"""How a worker goes about its tasks: start → analyse → execute → create new tasks.

Each strategy is a generator that yields what it wants done (`Ask` the model, `Act` on the world,
`Submit` an answer) and is sent what came of it. Nothing here knows Ray, a clock or a network, so
a strategy is tested by playing the other side.

Does not cover: caps and scores. The desk holds both; a strategy that is refused simply ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agents.assignment import Assignment, TaskBrief
from agents.desk_book import StepKind
from environments.protocol import Observation
from regent.models.speaker import Reply, Sampling
from regent.records import Message

#: How bold each strategy samples: several tries, the model's plain belief, its own distribution.
TEMPERATURE = {"attempt": 0.8, "teach": 0.0, "explore": 0.8, "replay": 1.0}
#: Characters of a note, an action and a free answer that a model may write.
NOTE_TOKENS, ACTION_TOKENS, ACTION_CHARACTERS = 48, 48, 80
#: How a task's words show an action: a verb and settings, `measure length=0.8`.
EXAMPLE = re.compile(r"\b([a-z]{3,12}) [A-Za-z_]+=-?\d")


@dataclass(frozen=True)
class Ask:
    """Ask the model; is sent a `Reply`."""

    kind: StepKind
    messages: tuple[Message, ...]
    sampling: Sampling


@dataclass(frozen=True)
class Act:
    """Do one thing in the world; is sent an `Observation`."""

    action: str


@dataclass(frozen=True)
class Submit:
    """Hand in the answer; is sent None. Nobody tells the worker how it scored."""

    answer: str


Effect = Ask | Act | Submit
Play = Generator[Effect, Reply | Observation | None, None]


class Suggestion(BaseModel):
    """One follow-up experiment that a worker's model proposes: data for the planner, no more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    skill: str = ""
    level: int = 0
    direction: Literal["harder", "easier", "same"]
    why: str = Field(max_length=120)


SUGGESTION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "direction": {"type": "string", "enum": ["harder", "easier", "same"]},
        "why": {"type": "string", "maxLength": 120},
    },
    "required": ["direction", "why"],
    "additionalProperties": False,
}


def play(task: TaskBrief, strategy: str) -> Play:
    """The strategy for one task: one reply where the task has one turn, exploring otherwise."""
    temperature = TEMPERATURE[strategy]
    return attempt(task, temperature) if task.max_steps == 1 else explore(task, temperature)


def attempt(task: TaskBrief, temperature: float) -> Play:
    """Sample the task's prompt once and hand in what came."""
    how = Sampling(max_tokens=task.answer_tokens, temperature=temperature)
    reply = yield Ask("answer", task.messages, how)
    if isinstance(reply, Reply) and reply.ok:
        yield Submit(reply.text)


def explore(task: TaskBrief, temperature: float) -> Play:
    """Note what matters, then choose readings one at a time, then state the law or prediction.

    The conversation is the task's own messages and what the world answered; the note goes in
    once. A reply that names no action is shown to the world as it is, which says that it is not
    an action; two of those in a row, and the worker answers with what it knows.
    """
    note = yield Ask(
        "analyse",
        _with(task.messages, "In one sentence: what would you measure first, and why?"),
        Sampling(max_tokens=NOTE_TOKENS, temperature=temperature),
    )
    if not isinstance(note, Reply) or not note.ok:
        return
    talk = [*task.messages, Message(role="assistant", content=note.text.strip() or "I measure.")]
    readings, invalid = max(task.max_steps - 1, 0), 0
    how = Sampling(
        max_tokens=ACTION_TOKENS, temperature=temperature, json_schema=action_schema(task)
    )
    for _ in range(readings):
        asked = _with(talk, "Give the next action only.")
        reply = yield Ask("execute", asked, how)
        if not isinstance(reply, Reply) or not reply.ok:
            return
        action = line_of(reply.text, "action")
        seen = yield Act(action)
        if not isinstance(seen, Observation):
            return
        talk = [
            *asked,
            Message(role="assistant", content=action or "(nothing)"),
            Message(role="user", content=seen.text),
        ]
        invalid = 0 if seen.valid else invalid + 1
        if seen.done or invalid == 2:
            break
    how = Sampling(max_tokens=task.answer_tokens, temperature=temperature)
    reply = yield Ask("answer", _with(talk, "No more measurements. Give the answer only."), how)
    if isinstance(reply, Reply) and reply.ok:
        yield Submit(reply.text)


def create(assignment: Assignment, answered: int) -> Ask:
    """Ask for one follow-up experiment. The worker knows what it answered, not how it scored."""
    text = (
        f"You practised {assignment.skill.replace('_', ' ')} at level {assignment.level}: "
        f"{answered} of {len(assignment.tasks)} tasks answered. "
        'Propose the next practice as JSON: {"direction": "harder" | "easier" | "same", '
        '"why": one short reason}.'
    )
    how = Sampling(max_tokens=64, temperature=0.8, json_schema=SUGGESTION_SCHEMA)
    return Ask("create", (Message(role="user", content=text),), how)


def suggestion_of(reply: Reply, assignment: Assignment) -> Suggestion | None:
    """The validated follow-up, or None where the reply failed, was cut or is not what was asked."""
    if not reply.ok or reply.finish == "length":
        return None
    try:
        value = Suggestion.model_validate_json(reply.text)
    except ValidationError:
        return None
    return value.model_copy(update={"skill": assignment.skill, "level": assignment.level})


def line_of(text: str, key: str) -> str:
    """The line under `key` of a JSON reply; else the first line of a reply that is not JSON."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, dict) and isinstance(value.get(key), str):
        return str(value[key]).strip()[:ACTION_CHARACTERS]
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[
        :ACTION_CHARACTERS
    ]


def action_schema(task: TaskBrief) -> dict[str, Any]:
    """The JSON schema of one action: `{"action": LINE}`.

    Where the task's own words show an action (`measure length=0.8`), the line must have that
    verb and that shape, so that even a very small model names a reading that can be taken.
    """
    line: dict[str, Any] = {"type": "string", "maxLength": ACTION_CHARACTERS}
    shown = EXAMPLE.search(" ".join(message.content for message in task.messages))
    if shown:
        one = r"[A-Za-z_]{1,24}=-?[0-9]{1,4}(\.[0-9]{1,3})?"
        line = {"type": "string", "pattern": f"^{shown.group(1)} {one}( {one}){{0,3}}$"}
    return {
        "type": "object",
        "properties": {"action": line},
        "required": ["action"],
        "additionalProperties": False,
    }


def _with(messages: Sequence[Message], text: str) -> tuple[Message, ...]:
    """The messages with one more turn of the user's, joined to the last where that is the user's
    (chat templates want the roles to alternate)."""
    if messages and messages[-1].role == "user":
        last = messages[-1]
        joined = Message(role="user", content=f"{last.content}\n\n{text}")
        return (*messages[:-1], joined)
    return (*messages, Message(role="user", content=text))
