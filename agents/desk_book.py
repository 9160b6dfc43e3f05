"""The rules of the desk: who may spend what, and what really happened.

A `DeskBook` keeps one page a task. It grants or refuses each model call, instrument reading and
answer under the caps of the run, writes down what was said in both directions, and builds the
trajectories itself, so that a worker can neither lift its caps nor forge what it did.

Workers are known by a ticket (an unguessable word that the driver hands to one worker), never by
an experiment's id, so naming another experiment opens nothing.

Covers steps, tokens and seconds. Disk needs no cap: a worker is given no folder and the desk
keeps everything in memory. Does not cover: calling models, worlds and verifiers, and the clock,
all of which the shell (`agents.desk`) does. Not thread-safe: one event loop owns a book.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from agents.assignment import Assignment, TaskBrief
from regent.config import Caps
from regent.models.speaker import Reply
from regent.records import ExperimentPlan, Message, Step, TaskRef, Trajectory

StepKind = Literal["analyse", "execute", "answer", "create"]
Outcome = Literal["verified", "refuted", "unanswered", "capped", "failed"]

#: A verified answer reaches this score; what scores less was refuted by the world.
VERIFIED_AT = 0.99
#: Characters of an answer that are kept; what is longer cannot be an answer to any of our tasks.
ANSWER_CHARACTERS = 4_000
#: Whole restarts of one experiment before the desk refuses to begin it again.
BEGINNINGS = 4


class Refused(Exception):
    """The desk does not do this; the message says which rule."""


@dataclass(frozen=True)
class Grant:
    """Leave for one model call: at most `max_tokens` in the reply and `seconds` to wait.

    `reserved` tokens are booked until the call is settled, so calls side by side cannot together
    pass a cap that each alone would keep. `attempt` tells a restarted worker's calls from those
    of the worker that died.
    """

    page: Page
    attempt: int
    max_tokens: int
    seconds: float
    reserved: int


@dataclass
class Page:
    """One task: what was spent on it and what happened."""

    brief: TaskBrief
    attempt: int = 0
    tokens: int = 0
    reserved: int = 0
    spent_steps: int = 0
    steps: list[Step] = field(default_factory=list)
    answer: str | None = None
    cap: str = ""
    fault: str = ""

    @property
    def closed(self) -> bool:
        return self.answer is not None or bool(self.cap)


@dataclass
class Experiment:
    """One plan under way."""

    plan: ExperimentPlan
    agent: str
    pages: list[Page]
    aside: Page
    began_s: float | None = None
    beginnings: int = 0
    failure: str = ""
    trajectories: list[Trajectory] | None = None


@dataclass(frozen=True)
class Progress:
    """How far one experiment is, for the live view."""

    plan: str
    done: int
    total: int
    tokens: int
    elapsed_s: float | None


class DeskBook:
    """All experiments of one run that are under way or done.

    `clock` gives monotonic seconds; `code` is the version that trajectories carry.
    """

    def __init__(self, caps: Caps, code: str, clock: Callable[[], float]) -> None:
        self.caps = caps
        self.code = code
        self._clock = clock
        self._experiments: dict[str, Experiment] = {}
        self._tickets: dict[str, str] = {}

    # The driver's side.

    def open(self, plan: ExperimentPlan, agent: str, tasks: Sequence[TaskBrief]) -> str:
        """Take a plan in; returns the ticket that its worker must show.

        A plan that is under way gets a new ticket and its earlier worker loses the old one; one
        that is closed gets none (""): it is done, and `close` gives what it gave.
        """
        known = self._experiments.get(plan.id)
        if known and known.trajectories is not None:
            return ""
        self.stop(plan.id)
        if known is None:
            aside = TaskBrief(index=-1, messages=(), max_steps=1, answer_tokens=0)
            self._experiments[plan.id] = Experiment(
                plan, agent, [Page(brief) for brief in tasks], Page(aside)
            )
        ticket = secrets.token_hex(16)
        self._tickets[ticket] = plan.id
        return ticket

    def experiment(self, plan_id: str) -> Experiment:
        """Raises Refused on an id that was never opened."""
        if plan_id not in self._experiments:
            raise Refused(f"no plan {plan_id[:12]} is at the desk")
        return self._experiments[plan_id]

    def progress(self) -> list[Progress]:
        """One line an experiment that is not closed yet."""
        now = self._clock()
        return [
            Progress(
                plan=plan_id,
                done=sum(page.closed for page in one.pages),
                total=len(one.pages),
                tokens=sum(page.tokens for page in [*one.pages, one.aside]),
                elapsed_s=None if one.began_s is None else now - one.began_s,
            )
            for plan_id, one in self._experiments.items()
            if one.trajectories is None
        ]

    def stop(self, plan_id: str) -> None:
        """No more calls for this plan: from now on its worker is refused."""
        for ticket in [t for t, owner in self._tickets.items() if owner == plan_id]:
            del self._tickets[ticket]

    def close(
        self, plan_id: str, scores: Sequence[float | None], faults: Sequence[str], model: str
    ) -> list[Trajectory]:
        """The trajectories of a plan, one a task. Closing twice gives what the first gave.

        `scores` and `faults` are the verifiers' ([n tasks]; None where there was no answer).
        """
        one = self.experiment(plan_id)
        if one.trajectories is None:
            self.stop(plan_id)
            one.trajectories = [
                self._trajectory(one, page, score, fault, model)
                for page, score, fault in zip(one.pages, scores, faults, strict=True)
            ]
        return one.trajectories

    # The worker's side.

    def begin(self, ticket: str) -> Assignment:
        """The tasks still open.

        A worker that died left them half done: they start afresh, but what they spent stays spent
        and the clock of the experiment runs on.
        """
        one = self._holder(ticket)
        one.beginnings += 1
        if one.beginnings > BEGINNINGS:
            raise Refused(f"this experiment began {BEGINNINGS} times and never ended")
        if one.began_s is None:
            one.began_s = self._clock()
        for page in one.pages:
            if not page.closed:
                page.attempt += 1
                page.steps.clear()
        return Assignment(
            goal=one.plan.goal,
            skill=one.plan.skill,
            level=one.plan.level,
            strategy=one.plan.strategy,
            seconds=self._left_s(one),
            tasks=tuple(page.brief for page in one.pages if not page.closed),
        )

    def grant(
        self, ticket: str, index: int, messages: Sequence[Message], max_tokens: int
    ) -> Grant | str:
        """Leave for a model call, or the name of the cap that forbids it (`cap: tokens`).

        Until the reply says what it cost, the prompt is booked at two characters a token and some
        for the chat template: above what models take, so that a cap holds before it is reached.
        """
        one, page = self._page(ticket, index)
        if page.closed:
            return page.cap or "this task was answered"
        seconds = self._left_s(one)
        estimate = 16 + sum(8 + len(message.content) // 2 for message in messages)
        room = self.caps.tokens - page.tokens - page.reserved - estimate
        if seconds <= 0:
            return self._cap(page, "cap: seconds")
        if room < 1:
            return self._cap(page, "cap: tokens")
        if page.spent_steps >= self.caps.steps:
            return self._cap(page, "cap: steps")
        page.spent_steps += 1
        allowed = min(max_tokens, room)
        page.reserved += estimate + allowed
        return Grant(page, page.attempt, allowed, seconds, estimate + allowed)

    def settle(
        self, grant: Grant, kind: StepKind, messages: Sequence[Message], reply: Reply
    ) -> None:
        """Book what a granted call cost and what was said. A dead worker's is only paid."""
        page = grant.page
        page.reserved -= grant.reserved
        # A server that does not say what a reply cost is paid what was booked for it.
        page.tokens += reply.tokens or (grant.reserved if reply.ok else 0)
        if grant.attempt != page.attempt or page.closed:
            return
        if not reply.ok:
            page.fault = reply.error
            if reply.error.startswith("cap: "):
                page.cap = reply.error
            return
        page.steps.append(
            Step(kind=kind, prompt=tuple(messages), response=reply.text, tokens=reply.tokens)
        )

    def step(self, ticket: str, index: int) -> Page:
        """Leave for one instrument reading; the shell then writes it with `observe`."""
        one, page = self._task(ticket, index)
        if page.closed:
            raise Refused(page.cap or "this task was answered")
        if self._left_s(one) <= 0:
            raise Refused(self._cap(page, "cap: seconds"))
        if page.spent_steps >= self.caps.steps:
            raise Refused(self._cap(page, "cap: steps"))
        page.spent_steps += 1
        return page

    def reference(self, ticket: str, index: int) -> TaskRef:
        """Which task the world must be reset to; for the shell, never for the worker."""
        return self._holder(ticket).plan.tasks[index]

    @staticmethod
    def observe(page: Page, attempt: int, action: str, text: str) -> None:
        """What the world answered to an action."""
        if attempt == page.attempt and not page.closed:
            page.steps.append(Step(kind="observe", prompt=(), response=action, observation=text))

    def submit(self, ticket: str, index: int, answer: str) -> None:
        """Take the answer to a task. It must be something that the model said on this task.

        The last step of an answered task is always the answer, with the prompt that led to it.
        """
        _, page = self._task(ticket, index)
        if page.closed:
            raise Refused(page.cap or "this task was answered")
        answer = answer[:ANSWER_CHARACTERS]
        said = [step for step in page.steps if step.prompt and _says(step.response, answer)]
        if not answer.strip() or not said:
            raise Refused("the model did not say this answer")
        source = said[-1]
        if source is page.steps[-1] and source.response == answer:
            page.steps[-1] = source.model_copy(update={"kind": "answer"})
        else:
            page.steps.append(Step(kind="answer", prompt=source.prompt, response=answer))
        page.answer = answer

    # The rules behind both.

    def _holder(self, ticket: str) -> Experiment:
        plan_id = self._tickets.get(ticket)
        if plan_id is None:
            raise Refused("no open experiment has this ticket")
        return self._experiments[plan_id]

    def _page(self, ticket: str, index: int) -> tuple[Experiment, Page]:
        """The page of a task, or the one aside (index −1), where only the model may be asked."""
        if index == -1:
            one = self._holder(ticket)
            return one, one.aside
        return self._task(ticket, index)

    def _task(self, ticket: str, index: int) -> tuple[Experiment, Page]:
        one = self._holder(ticket)
        if one.began_s is None:
            raise Refused("this experiment has not begun")
        if not 0 <= index < len(one.pages):
            raise Refused(f"this experiment has no task {index}")
        return one, one.pages[index]

    def _left_s(self, one: Experiment) -> float:
        began = self._clock() if one.began_s is None else one.began_s
        return self.caps.seconds - (self._clock() - began)

    @staticmethod
    def _cap(page: Page, name: str) -> str:
        page.cap = name
        return name

    def _trajectory(
        self, one: Experiment, page: Page, score: float | None, fault: str, model: str
    ) -> Trajectory:
        outcome: Outcome
        detail = fault
        if page.answer is not None and score is not None:
            outcome = "verified" if score >= VERIFIED_AT else "refuted"
        elif page.answer is not None:
            outcome = "failed"
        elif page.cap or self._left_s(one) <= 0:
            outcome, detail = "capped", page.cap or "cap: seconds"
        elif one.failure or page.fault:
            outcome, detail = "failed", one.failure or page.fault
        else:
            outcome, detail = "unanswered", "the worker gave no answer"
        return Trajectory(
            parents=(one.plan.id,),
            plan=one.plan.id,
            task=one.plan.tasks[page.brief.index],
            agent=one.agent,
            model=model,
            code=self.code,
            steps=tuple(page.steps),
            score=score if outcome in ("verified", "refuted") else None,
            outcome=outcome,
            detail=detail[:400],
            tokens=page.tokens,
        )


def _says(response: str, answer: str) -> bool:
    """Whether `answer` stands in the response, as it is or as text inside its JSON."""
    if answer.strip() in response:
        return True
    try:
        value = json.loads(response)
    except ValueError:
        return False
    return any(answer.strip() in leaf for leaf in _leaves(value))


def _leaves(value: object) -> list[str]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value] if isinstance(value, str) else [str(value)]
