"""The desk: the workers' only door to the model, the worlds and the verifiers.

It holds the endpoint and its key, the episodes and the verifiers; workers hold a ticket and
speak through it. It is a Ray actor (`regent-desk-RUN`) on the driver's own node, where the
engine's loopback address means something. `DeskService` is the same without Ray.

Not a wall against hostile code: any process that may join a Ray cluster may run code on it.
The desk keeps apart what an honest worker with a confused model must not reach or decide.
If the desk dies, what it held is lost: the driver says so and the run is resumed from the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import ray
from ray.exceptions import ActorDiedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from agents import metrics
from agents.assignment import Assignment, brief_of
from agents.desk_book import DeskBook, Page, Progress, Refused, StepKind
from environments.protocol import Environment, Observation, Session
from environments.registry import environment
from regent.config import Caps
from regent.errors import CannotRun
from regent.models.endpoint import Endpoint
from regent.models.speaker import Conversation, Reply, Sampling
from regent.records import ExperimentPlan, Message, TaskRef, Trajectory

T = TypeVar("T")

#: Seconds that a world or a verifier may take before it is given up.
WORLD_SECONDS = 30.0


@dataclass(frozen=True)
class EndpointAddress:
    """Where the workers' model answers. `name` is what trajectories call it (the checkpoint);
    empty takes `model`, the name that the server knows it by."""

    base_url: str
    model: str
    api_key: str = ""
    name: str = ""
    timeout_s: float = 120.0
    max_concurrency: int = 128
    retries: int = 2

    def __repr__(self) -> str:
        return f"EndpointAddress({self.base_url!r}, {self.model!r})"


class Asks(Protocol):
    """What the desk needs of an endpoint."""

    async def ask(self, conversation: Conversation, how: Sampling) -> Reply: ...


class DeskService:
    """The desk's effects around a `DeskBook`. One event loop owns it."""

    def __init__(
        self,
        secret: str,
        caps: Caps,
        code: str,
        endpoint: Asks | None = None,
        model: str = "",
        find: Callable[[str], Environment] = environment,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._secret = secret
        self._book = DeskBook(caps, code, clock)
        self._endpoint = endpoint
        self._model = model
        self._find = find
        self._sessions: dict[tuple[int, int], Session] = {}
        # One thread: environments need not be thread-safe, and two cores gain nothing from more.
        self._world = ThreadPoolExecutor(1, thread_name_prefix="world")

    # The driver's side: every verb needs the secret that only the driver holds.

    async def serve(self, secret: str, address: EndpointAddress) -> None:
        """Speak with the model at `address` from now on (a new champion, a restarted engine)."""
        self._driver(secret)
        self._endpoint = Endpoint(
            base_url=address.base_url,
            model=address.model,
            api_key=address.api_key,
            timeout_s=address.timeout_s,
            max_concurrency=address.max_concurrency,
            retries=address.retries,
        )
        self._model = address.name or address.model

    async def open(self, secret: str, plan: ExperimentPlan, agent: str) -> str:
        """Take a plan in; returns its worker's ticket, or "" where the plan was closed before."""
        self._driver(secret)
        world = self._find(plan.environment)
        tasks = await self._in_world(lambda: [world.task(ref) for ref in plan.tasks])
        briefs = [brief_of(task, index) for index, task in enumerate(tasks)]
        return self._book.open(plan, agent, briefs)

    async def progress(self, secret: str) -> list[Progress]:
        """One line an experiment under way."""
        self._driver(secret)
        return self._book.progress()

    async def close(self, secret: str, plan_id: str, failure: str = "") -> list[Trajectory]:
        """End an experiment: verify its answers and give its trajectories.

        `failure` says why the worker ended, where it did not end by itself. Closing again gives
        the same trajectories, so a driver that lost the first reply asks again.
        """
        self._driver(secret)
        one = self._book.experiment(plan_id)
        if one.trajectories is not None:
            return one.trajectories
        self._book.stop(plan_id)
        one.failure = failure
        world = self._find(one.plan.environment)
        scores: list[float | None] = []
        faults: list[str] = []
        for page, ref in zip(one.pages, one.plan.tasks, strict=True):
            score, fault = await self._verify(world, ref, page.answer)
            scores.append(score)
            faults.append(fault)
            self._forget(page)
        return self._book.close(plan_id, scores, faults, self._model)

    # The workers' side: every verb needs a ticket, and none tells a score.

    async def begin(self, ticket: str) -> Assignment:
        """The open tasks behind a ticket. Raises Refused on one that the desk never gave out."""
        return self._book.begin(ticket)

    async def ask(
        self,
        ticket: str,
        index: int,
        messages: Sequence[Message],
        how: Sampling,
        kind: StepKind = "execute",
    ) -> Reply:
        """One reply of the model, within the caps; beyond them `Reply(error="cap: …")`.

        `index` −1 asks aside from any task (to propose a follow-up) under the caps of one.
        """
        try:
            grant = self._book.grant(ticket, index, messages, how.max_tokens)
        except Refused as refusal:
            return Reply("", finish="error", error=str(refusal))
        if isinstance(grant, str):
            return Reply("", finish="error", error=grant)
        reply = Reply("", finish="error", error="the call was cancelled")
        try:
            reply = await self._reply(
                messages, replace(how, max_tokens=grant.max_tokens), grant.seconds
            )
        finally:
            self._book.settle(grant, kind, messages, reply)
        metrics.add_tokens("experiment", reply.tokens)
        return reply

    async def step(self, ticket: str, index: int, action: str) -> Observation:
        """What the world answers to an action; beyond the caps an observation that says so."""
        try:
            page = self._book.step(ticket, index)
        except Refused as refusal:
            return Observation(str(refusal), done=True, valid=False)
        attempt, key = page.attempt, (id(page), page.attempt)
        one_ref = self._book.reference(ticket, index)
        try:
            if key not in self._sessions:
                world = self._find(one_ref.environment)
                self._sessions[key] = await self._in_world(lambda: world.reset(one_ref))
            session = self._sessions[key]
            seen = await self._in_world(lambda: session.step(action))
        except Exception as error:
            page.fault = _line(error)
            return Observation("the world does not answer", done=True, valid=False)
        self._book.observe(page, attempt, action, seen.text)
        return seen

    async def submit(self, ticket: str, index: int, answer: str) -> None:
        """Hand in the answer. Whether it was taken and its score are not told."""
        with contextlib.suppress(Refused):
            self._book.submit(ticket, index, answer)

    def _driver(self, secret: str) -> None:
        if not hmac.compare_digest(secret, self._secret):
            raise Refused("only the driver does this")

    async def _reply(self, messages: Sequence[Message], how: Sampling, seconds: float) -> Reply:
        """Whatever goes wrong with the model is a reply with an error, never an exception."""
        if self._endpoint is None:
            return Reply("", finish="error", error="the desk serves no model yet")
        try:
            return await asyncio.wait_for(self._endpoint.ask(messages, how), seconds)
        except TimeoutError:
            return Reply("", finish="error", error="cap: seconds")
        except Exception as error:
            return Reply("", finish="error", error=_line(error))

    async def _verify(
        self, world: Environment, ref: TaskRef, answer: str | None
    ) -> tuple[float | None, str]:
        if answer is None:
            return None, ""
        try:
            score = await self._in_world(lambda: world.verify(ref, answer))
        except Exception as error:
            return None, f"the verifier failed: {_line(error)}"
        if not 0 <= score <= 1:
            return None, f"the verifier gave {score}, which is no score in [0, 1]"
        return float(score), ""

    async def _in_world(self, work: Callable[[], T]) -> T:
        """Run foreign, synchronous code off the loop; what hangs is left behind with its thread."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._world, work)
        try:
            return await asyncio.wait_for(future, WORLD_SECONDS)
        except TimeoutError:
            self._world.shutdown(wait=False, cancel_futures=True)
            self._world = ThreadPoolExecutor(1, thread_name_prefix="world")
            raise TimeoutError(f"no answer within {WORLD_SECONDS:.0f} s") from None

    def _forget(self, page: Page) -> None:
        for attempt in range(page.attempt + 1):
            self._sessions.pop((id(page), attempt), None)


@dataclass(frozen=True)
class Desk:
    """The driver's handle: the actor, and the secret that workers are never given."""

    actor: Any
    secret: str
    name: str

    @classmethod
    def start(cls, run: str, caps: Caps, code: str) -> Desk:
        """Start the desk of `run` on the driver's node; `serve` lets it speak with a model."""
        secret, name = secrets.token_hex(16), f"regent-desk-{run}"
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor: Any = (
            ray.remote(DeskService)
            .options(name=name, num_cpus=0, max_concurrency=1024, scheduling_strategy=here)
            .remote(secret, caps, code)
        )
        try:
            ray.get(actor.progress.remote(secret), timeout=120.0)
        except ActorDiedError as error:
            # So it ends where one side shows tokens and the other does not: Ray takes the refusal
            # of its own question for an actor that nobody refers to.
            raise CannotRun(
                "Ray dropped the run's desk before it began: cluster and driver must both use "
                "tokens, or neither; set RAY_AUTH_MODE=disabled (or token) as the cluster was "
                "started, then `regent resume`"
            ) from error
        return cls(actor, secret, name)

    def serve(self, address: EndpointAddress, timeout_s: float = 120.0) -> None:
        """Speak with the model at `address` from now on."""
        ray.get(self.actor.serve.remote(self.secret, address), timeout=timeout_s)

    def stop(self) -> None:
        """End the desk; what it held is gone."""
        ray.kill(self.actor)


def _line(error: Exception) -> str:
    """An exception as one line of a record."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
