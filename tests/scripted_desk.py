"""A real desk over a scripted model, a world of one skill, and a clock that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agents.desk import DeskService
from agents.worker import Report, Worker
from environments.protocol import Observation, Task
from regent.config import Caps
from regent.models.speaker import Conversation, Reply, Sampling
from regent.records import ExperimentPlan, Message, TaskRef, Trajectory

T = TypeVar("T")
SECRET = "the driver's own"


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Script:
    """An endpoint that answers as told; `asked` is what reached it."""

    answer: Callable[[Conversation, Sampling], Reply]
    asked: list[tuple[Conversation, Sampling]] = field(default_factory=list)
    hang: bool = False

    async def ask(self, conversation: Conversation, how: Sampling) -> Reply:
        self.asked.append((conversation, how))
        if self.hang:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return self.answer(conversation, how)


class Bench:
    """A world of one skill: say the seed. Level 1 shows it to whoever measures."""

    name = "bench"

    def __init__(self) -> None:
        self.skills = {"echo": 2}
        self.verified: list[str] = []

    def task(self, ref: TaskRef) -> Task:
        words = "Say the number. You may 'measure x=1'." if ref.level else f"Say {ref.seed}."
        return Task(ref, (Message(role="user", content=words),), max_steps=1 + 3 * ref.level)

    def reset(self, ref: TaskRef) -> BenchSession:
        return BenchSession(ref.seed)

    def verify(self, ref: TaskRef, answer: str) -> float:
        self.verified.append(answer)
        return float(answer.strip() == str(ref.seed))

    def solution(self, ref: TaskRef) -> str:
        return str(ref.seed)


@dataclass
class BenchSession:
    seed: int

    def step(self, action: str) -> Observation:
        if not action.startswith("measure"):
            return Observation("that is not an action", done=False, valid=False)
        return Observation(f"it shows {self.seed}", done=False)


def reply(text: str, prompt: int = 10, completion: int = 2) -> Reply:
    return Reply(text, prompt_tokens=prompt, completion_tokens=completion)


def knows(conversation: Conversation, how: Sampling) -> Reply:
    """A model that does well at both levels."""
    text = conversation[-1].content
    if how.json_schema and "action" in how.json_schema["properties"]:
        return reply('{"action": "measure x=1"}')
    if how.json_schema:
        return reply('{"direction": "harder", "why": "all was right"}')
    numbers = [word.strip(".") for word in text.replace("\n", " ").split()]
    return reply(next((w for w in reversed(numbers) if w.isdigit()), "no idea"))


def plan(n: int = 3, level: int = 0, first: int = 7) -> ExperimentPlan:
    tasks = tuple(
        TaskRef(environment="bench", skill="echo", level=level, seed=first + i) for i in range(n)
    )
    return ExperimentPlan(
        round=1,
        gap="gap",
        environment="bench",
        skill="echo",
        level=level,
        goal="say it",
        strategy="explore" if level else "attempt",
        tasks=tasks,
        seed=0,
    )


@dataclass
class Room:
    desk: DeskService
    script: Script
    world: Bench
    clock: Clock

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work)

    async def ticket(self, what: ExperimentPlan) -> str:
        ticket = await self.desk.open(SECRET, what, "experiment-r1-00-echo")
        await self.desk.begin(ticket)
        return ticket

    async def experiment(self, what: ExperimentPlan) -> tuple[Report, list[Trajectory]]:
        ticket = await self.desk.open(SECRET, what, "experiment-r1-00-echo")
        report = await Worker().run(ticket, 4, self.desk)
        return report, await self.desk.close(SECRET, what.id)


def room(
    answer: Callable[[Conversation, Sampling], Reply] = knows, hang: bool = False, **caps: Any
) -> Room:
    script, world, clock = Script(answer, hang=hang), Bench(), Clock()
    limits = Caps(**{"steps": 12, "tokens": 4000, "seconds": 90.0, **caps})
    desk = DeskService(SECRET, limits, "code-1", script, "model-1", lambda _: world, clock)
    return Room(desk, script, world, clock)


def ask(r: Room, ticket: str, index: int = 0, words: str = "Say 7.", most: int = 8) -> Any:
    return r.desk.ask(ticket, index, (Message(role="user", content=words),), Sampling(most))
