"""The crew: runs a round's experiments on Ray, at most `workers` at once, and never hangs.

The driver's side of an experiment: it opens the plan at the desk, starts the worker, watches it
and takes the trajectories from the desk, whatever became of the worker. A worker past its
deadline is killed; one that died is restarted by Ray a bounded number of times; an experiment
that could not be run comes back as `failed` trajectories, which are data.

Does not cover: what is planned, and keeping the trajectories (`keep` gets each experiment's as
soon as it ends, so that a driver killed later has lost nothing).
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from agents import metrics
from agents.desk import Desk
from agents.desk_book import Progress
from agents.worker import RayDoor, Report, Worker, actor_name
from regent.config import ExperimentConfig
from regent.errors import CannotRun
from regent.records import ExperimentPlan, Trajectory

Event = dict[str, Any]

RESTARTS = 2
#: Seconds past its deadline that a worker gets to end by itself.
GRACE_S = 3.0
#: Seconds that a worker may wait for a place on the cluster and start.
START_S = 180.0
#: Seconds that the desk may take to answer the driver; closing runs the verifiers.
DESK_S = 120.0
#: Seconds between two looks at the desk for the live view.
LOOK_S = 0.5


@dataclass
class _Running:
    """One worker under way; `actor` is its handle, which Ray does not type."""

    plan: ExperimentPlan
    name: str
    actor: Any
    started_s: float


def run_experiments(
    plans: Sequence[ExperimentPlan],
    desk: Desk,
    config: ExperimentConfig,
    on_event: Callable[[Event], None] = lambda event: None,
    keep: Callable[[ExperimentPlan, list[Trajectory]], None] = lambda plan, trajectories: None,
) -> list[Trajectory]:
    """All trajectories of `plans`, in their order; each plan is run once however often it is named.

    Events (dicts with `event`): `started` and `progress` (`plan, worker, skill, done, total,
    tokens, elapsed_s`), `ended` (`plan, worker, outcomes, tokens, seconds, detail`) and
    `suggestion` (`plan, skill, level, direction, why`: data for the planner).
    Raises CannotRun where the desk or Ray itself is gone; what was kept stays kept.
    """
    waiting = deque({plan.id: plan for plan in plans}.values())
    order = [plan.id for plan in waiting]
    numbers = {plan_id: number for number, plan_id in enumerate(order)}
    running: dict[Any, _Running] = {}
    ended: dict[str, list[Trajectory]] = {}
    looked_s = 0.0

    def end(ref: Any, failure: str, report: Report | None) -> None:
        one = running.pop(ref)
        ended[one.plan.id] = _end(one, desk, failure, report, on_event, keep)

    try:
        while waiting or running:
            while waiting and len(running) < config.workers:
                plan = waiting.popleft()
                name = actor_name(plan, numbers[plan.id])
                ticket = _ask_desk(desk.actor.open, desk.secret, plan, name)
                if not ticket:
                    ended[plan.id] = _ask_desk(desk.actor.close, desk.secret, plan.id)
                    continue
                ref, one = _start(plan, name, ticket, desk, config)
                running[ref] = one
                on_event(_event("started", one, Progress(plan.id, 0, len(plan.tasks), 0, None)))
            if not running:
                continue
            ready, _ = ray.wait(list(running), num_returns=1, timeout=LOOK_S / 2)
            for ref in ready:
                end(ref, *_result(ref))
            if running and time.monotonic() - looked_s >= LOOK_S:
                looked_s = time.monotonic()
                lines = {line.plan: line for line in _ask_desk(desk.actor.progress, desk.secret)}
                for ref, one in list(running.items()):
                    line = lines[one.plan.id]
                    on_event(_event("progress", one, line))
                    overdue = _overdue(one, line, config.caps.seconds)
                    if overdue:
                        end(ref, overdue, None)
    finally:
        for one in running.values():
            with contextlib.suppress(Exception):
                ray.kill(one.actor)
    return [trajectory for plan_id in order for trajectory in ended[plan_id]]


def _start(
    plan: ExperimentPlan, name: str, ticket: str, desk: Desk, config: ExperimentConfig
) -> tuple[Any, _Running]:
    """Start the plan's worker; the reference is to the worker's report."""
    for attempt in range(1, 10):
        # A name is taken while Ray still buries an earlier actor of this run.
        unique = name if attempt == 1 else f"{name}-{attempt}"
        try:
            actor: Any = (
                ray.remote(Worker)
                .options(
                    name=unique,
                    num_cpus=0.1,
                    max_restarts=RESTARTS,
                    # While a node's death is not yet known, each retry fails at once and
                    # would use up a number. The restarts and the deadline bound them.
                    max_task_retries=-1,
                    scheduling_strategy="SPREAD",
                )
                .remote()
            )
            break
        except ValueError:
            continue
    else:
        raise CannotRun(
            f"Ray has live actors called {name}; end the other run of this folder first"
        )
    ref = actor.run.remote(ticket, config.concurrency, RayDoor(desk.actor))
    return ref, _Running(plan, unique, actor, time.monotonic())


def _result(ref: Any) -> tuple[str, Report | None]:
    """Why the worker failed (empty where it did not), and its report."""
    try:
        return "", ray.get(ref, timeout=DESK_S)
    except RayTaskError as error:
        return f"the worker raised {_line(error)}", None
    except RayActorError as error:
        return f"the worker died: {_line(error)}", None
    except RayError as error:
        return f"Ray lost the worker: {_line(error)}", None


def _overdue(one: _Running, line: Progress, seconds: float) -> str:
    """Why this worker must be stopped now; empty where it may go on."""
    if line.elapsed_s is not None:
        return "cap: seconds" if line.elapsed_s > seconds + GRACE_S else ""
    if time.monotonic() - one.started_s > START_S:
        return f"the worker did not start within {START_S:.0f} s: no room on the cluster?"
    return ""


def _end(
    one: _Running,
    desk: Desk,
    failure: str,
    report: Report | None,
    on_event: Callable[[Event], None],
    keep: Callable[[ExperimentPlan, list[Trajectory]], None],
) -> list[Trajectory]:
    """Bury the worker, take what the desk saw and pass it on."""
    ray.kill(one.actor)
    trajectories: list[Trajectory] = _ask_desk(desk.actor.close, desk.secret, one.plan.id, failure)
    keep(one.plan, trajectories)
    outcomes: dict[str, int] = {}
    for trajectory in trajectories:
        outcomes[trajectory.outcome] = outcomes.get(trajectory.outcome, 0) + 1
    bad = next((kind for kind in ("capped", "failed") if outcomes.get(kind)), "completed")
    metrics.add_experiments(1, bad)
    on_event(
        {
            "event": "ended",
            "plan": one.plan.id,
            "worker": one.name,
            "skill": one.plan.skill,
            "outcomes": outcomes,
            "tokens": sum(trajectory.tokens for trajectory in trajectories),
            "seconds": time.monotonic() - one.started_s,
            "detail": failure,
        }
    )
    if report is not None and report.suggestion is not None:
        on_event({"event": "suggestion", "plan": one.plan.id, **report.suggestion.model_dump()})
    return trajectories


def _event(kind: str, one: _Running, line: Progress) -> Event:
    return {"event": kind, "worker": one.name, "skill": one.plan.skill, **asdict(line)}


def _ask_desk(method: Any, *args: Any) -> Any:
    """One call of the driver to the desk; a desk that is gone ends the run in one line."""
    try:
        return ray.get(method.remote(*args), timeout=DESK_S)
    except GetTimeoutError as error:
        raise CannotRun(
            f"the desk did not answer within {DESK_S:.0f} s; `regent resume` goes on"
        ) from error
    except RayActorError as error:
        raise CannotRun("the desk died; `regent resume` goes on with what was kept") from error
    except RayTaskError as error:
        cause = error.cause if isinstance(error.cause, Exception) else error
        raise CannotRun(f"the desk refused: {_line(cause)}") from error


def _line(error: Exception) -> str:
    """The last line of an error: Ray puts the traceback before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
