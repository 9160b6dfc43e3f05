"""The worker: an AgentGPT-style agent that runs one experiment as a Ray actor.

It has a goal and does start → analyse → execute → create new tasks (`agents.strategy`), waiting
on the engine rather than computing, so many share a core. It holds a ticket and the desk's
handle, nothing else: no key, no verifier, no seed, no folder. Its caps are the desk's.

One actor an experiment, named `experiment-r1-03-chain_sum`, so that `ray list actors` and the
dashboard read as a list of what is being tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Protocol

from agents.assignment import Assignment, TaskBrief
from agents.desk_book import StepKind
from agents.strategy import Act, Ask, Effect, Suggestion, create, play, suggestion_of
from environments.protocol import Observation
from regent.models.speaker import Reply, Sampling
from regent.records import ExperimentPlan, Message


class Door(Protocol):
    """What a worker may do at the desk."""

    def begin(self, ticket: str) -> Awaitable[Assignment]: ...

    def ask(
        self, ticket: str, index: int, messages: tuple[Message, ...], how: Sampling, kind: StepKind
    ) -> Awaitable[Reply]: ...

    def step(self, ticket: str, index: int, action: str) -> Awaitable[Observation]: ...

    def submit(self, ticket: str, index: int, answer: str) -> Awaitable[None]: ...


class RayDoor:
    """The desk's verbs for workers, over its actor handle."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def begin(self, ticket: str) -> Assignment:
        assignment: Assignment = await self._actor.begin.remote(ticket)
        return assignment

    async def ask(
        self, ticket: str, index: int, messages: tuple[Message, ...], how: Sampling, kind: StepKind
    ) -> Reply:
        reply: Reply = await self._actor.ask.remote(ticket, index, messages, how, kind)
        return reply

    async def step(self, ticket: str, index: int, action: str) -> Observation:
        seen: Observation = await self._actor.step.remote(ticket, index, action)
        return seen

    async def submit(self, ticket: str, index: int, answer: str) -> None:
        await self._actor.submit.remote(ticket, index, answer)


@dataclass(frozen=True)
class Report:
    """What a worker says of its experiment. The trajectories are the desk's to tell."""

    answered: int
    tasks: int
    suggestion: Suggestion | None


class Worker:
    """Runs one experiment. `agents.crew` makes a Ray actor of it; its door is a `RayDoor`."""

    async def run(self, ticket: str, concurrency: int, door: Door) -> Report:
        """Begin what the ticket opens, do its tasks, at most `concurrency` in flight, and propose
        one follow-up. Called again after a crash it takes up what is still open."""
        assignment = await door.begin(ticket)
        gate = asyncio.Semaphore(concurrency)

        async def one(task: TaskBrief) -> bool:
            async with gate:
                return await perform(task, assignment.strategy, ticket, door)

        done = await asyncio.gather(*(one(task) for task in assignment.tasks))
        answered = sum(done)
        follow_up = create(assignment, answered)
        reply = await door.ask(ticket, -1, follow_up.messages, follow_up.sampling, follow_up.kind)
        return Report(answered, len(assignment.tasks), suggestion_of(reply, assignment))


async def perform(task: TaskBrief, strategy: str, ticket: str, door: Door) -> bool:
    """Play one task against the desk; whether an answer was handed in, not its score."""
    game = play(task, strategy)
    outcome: Reply | Observation | None = None
    answered = False
    while True:
        try:
            effect: Effect = game.send(outcome)
        except StopIteration:
            return answered
        if isinstance(effect, Ask):
            outcome = await door.ask(
                ticket, task.index, effect.messages, effect.sampling, effect.kind
            )
        elif isinstance(effect, Act):
            outcome = await door.step(ticket, task.index, effect.action)
        else:
            await door.submit(ticket, task.index, effect.answer)
            outcome, answered = None, True


def actor_name(plan: ExperimentPlan, number: int) -> str:
    """`experiment-r1-03-chain_sum`: round, place in the round, skill."""
    return f"experiment-r{plan.round}-{number:02d}-{plan.skill}"
