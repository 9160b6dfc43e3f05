"""The path that a run's model calls take: Ray worker actors, the desk, the engine.

Four actors hold tickets of one experiment each and send their share of the requests through
`RayDoor`, the door that every worker uses, so that Ray's hops, the caps' book-keeping and the
desk's endpoint are all paid for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from agents.cluster import connect, disconnect
from agents.desk import Desk, EndpointAddress
from agents.worker import RayDoor
from regent.config import Caps, RayConfig
from regent.errors import CannotRun
from regent.models.engine import MAX_NUM_SEQS, Engine
from regent.models.speaker import Sampling
from regent.records import ExperimentPlan, Message, TaskRef

WORKERS = 4
_CAPS = Caps(steps=1_000_000, tokens=1_000_000_000, seconds=3_600)


class Sender:
    """A worker that sends given requests instead of playing tasks."""

    async def begin(self, ticket: str, door: RayDoor) -> None:
        """Take up the experiment, once: the desk counts beginnings."""
        await door.begin(ticket)

    async def send(self, ticket: str, prompts: list[str], most: int, door: RayDoor) -> int:
        """Completion tokens of all replies; raises CannotRun where one failed."""
        how = Sampling(most)
        replies = await asyncio.gather(
            *(
                door.ask(ticket, 0, (Message(role="user", content=prompt),), how, "execute")
                for prompt in prompts
            )
        )
        failed = [reply.error for reply in replies if not reply.ok]
        if failed:
            raise CannotRun(f"{len(failed)} requests failed ({failed[0]}); see the engine's log")
        return sum(reply.completion_tokens for reply in replies)


class WorkersPath:
    """Ray, a desk before `engine`, and four senders, kept for several measurements."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        connect(RayConfig(dashboard=False), folder)
        address = EndpointAddress(
            engine.base_url, engine.model_name, engine.api_key, max_concurrency=MAX_NUM_SEQS
        )
        self.desk = Desk.start("throughput", _CAPS, "benchmark")
        self.desk.serve(address)
        self.senders: list[Any] = [
            ray.remote(Sender).options(num_cpus=0.1, name=f"sender-{i}").remote()
            for i in range(WORKERS)
        ]
        self.tickets = [
            ray.get(self.desk.actor.open.remote(self.desk.secret, _plan(i), f"sender-{i}"))
            for i in range(WORKERS)
        ]

        door = RayDoor(self.desk.actor)
        pairs = zip(self.senders, self.tickets, strict=True)
        ray.get([sender.begin.remote(ticket, door) for sender, ticket in pairs])

    def send(self, prompts: Sequence[str], most: int) -> int:
        """Completion tokens of the requests, each worker with its share of them."""
        door = RayDoor(self.desk.actor)
        shares = [list(prompts[i::WORKERS]) for i in range(WORKERS)]
        return sum(
            ray.get(
                [
                    sender.send.remote(ticket, share, most, door)
                    for sender, ticket, share in zip(
                        self.senders, self.tickets, shares, strict=True
                    )
                ]
            )
        )

    def close(self) -> None:
        self.desk.stop()
        disconnect()


def _plan(number: int) -> ExperimentPlan:
    task = TaskRef(environment="reasoning", skill="chain_sum", level=0, seed=number)
    return ExperimentPlan(
        round=0,
        gap="throughput",
        environment=task.environment,
        skill=task.skill,
        level=task.level,
        goal="carry requests",
        strategy="attempt",
        tasks=(task,),
        seed=number,
    )
