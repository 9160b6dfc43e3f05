"""Plans a round's experiments: a model proposes, the bandit's budget disposes.

The bandit says how many experiments each gap may have. The model is asked once for every
experiment and chooses a gap, a strategy and a difficulty, with its reason. A proposal whose gap has
no budget left, that repeats another, or that never came is replaced by the default plan for the
gap that the bandit still wants; the plan's goal says who planned it and why.

Tasks are drawn from the "train" split. An experiment whose tasks overlap an earlier one's is
refused before it runs.
Does not cover: near-duplicates between different tasks, which the supervisor's screens see.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.bandit import allocate
from agents.proposals import Ask, Asked, Proposal, Strategy, proposal_schema
from environments.registry import environment
from environments.skills import Node, items
from regent.config import ExperimentConfig
from regent.records import ExperimentPlan, Gap, TaskRef

EASIER_BELOW = 0.25
NEAR_SAME = 0.9
REDRAWS = 4


@dataclass(frozen=True)
class _Choice:
    """What one experiment will be, and who said so."""

    gap: Gap
    strategy: Strategy
    level: int
    reason: str
    planned_by: str


def plan(
    gaps: Sequence[Gap],
    shares: Mapping[str, float],
    config: ExperimentConfig,
    seed: int,
    round: int,
    ask: Ask,
    past: Sequence[ExperimentPlan] = (),
) -> tuple[list[ExperimentPlan], list[str]]:
    """At most `config.experiments` plans, and notes on what failed or was refused.

    `shares` come from `agents.bandit.shares`; `past` are the plans of earlier rounds. What a model
    proposes may differ when asked again, so plans are recorded before they are acted upon.
    """
    budget = allocate({gap.id: shares.get(gap.id, 0.0) for gap in gaps}, config.experiments)
    open_gaps = [gap for gap in gaps if budget[gap.id] > 0]
    if not open_gaps:
        return [], ["no gap has a share of the budget: nothing to plan"]
    names = {f"r{i}": gap for i, gap in enumerate(open_gaps, start=1)}
    total = sum(budget.values())
    prompts = [prompt(names, i + 1, total) for i in range(total)]
    asked = ask(prompts, proposal_schema(list(names)))
    choices, notes = settle(asked, names, budget)

    rng = np.random.default_rng([seed, round, 1])
    met = _tasks_met(past)
    plans: list[ExperimentPlan] = []
    for choice in choices:
        drawn = _fresh_tasks(choice, config.tasks, met, rng)
        where = f"{choice.gap.environment}/{choice.gap.skill} level {choice.level}"
        if drawn is None:
            notes.append(f"refused: an experiment on {where} would repeat tasks of an earlier one")
            continue
        tasks_seed, tasks = drawn
        met.update(tasks)
        plans.append(
            ExperimentPlan(
                parents=(choice.gap.id,),
                round=round,
                gap=choice.gap.id,
                environment=choice.gap.environment,
                skill=choice.gap.skill,
                level=choice.level,
                goal=f"{choice.planned_by}: {choice.strategy} {where}: {choice.reason}"[:400],
                strategy=choice.strategy,
                tasks=tasks,
                seed=tasks_seed,
            )
        )
    return plans, notes


def prompt(names: Mapping[str, Gap], number: int, total: int) -> str:
    """What the planner is told: short, because the planner may be very small."""
    lines = [
        f"{name}: {gap.skill.replace('_', ' ')} ({gap.environment}), level {gap.level}, "
        f"right {gap.accuracy:.0%} of the time, should be {gap.target:.0%}"
        for name, gap in names.items()
    ]
    return (
        "You plan experiments that teach a language model what it cannot do yet.\n"
        + "\n".join(lines)
        + "\nStrategies: attempt = try many tasks, teach = learn from corrections, "
        "explore = make measurements.\n"
        f"Plan experiment {number} of {total}: choose one gap, a strategy, a difficulty, "
        "and give a short reason. Answer in JSON."
    )


def settle(
    asked: Sequence[Asked], names: Mapping[str, Gap], budget: Mapping[str, int]
) -> tuple[list[_Choice], list[str]]:
    """Proposals within the budget, in order; default plans for every experiment left over."""
    left = dict(budget)
    choices: list[_Choice] = []
    refused: list[str] = []
    for answer in asked:
        proposal = answer.proposal
        if proposal is None:
            refused.append(answer.error)
            continue
        gap = names.get(proposal.gap)
        if gap is None:
            refused.append(f"it names no gap: {proposal.gap}")
            continue
        choice = _proposed(gap, proposal)
        if left[gap.id] == 0:
            refused.append(f"the model proposed {gap.skill} again, which had its share already")
        elif any(_repeats(choice, earlier) for earlier in choices):
            refused.append("it repeats another proposal")
        else:
            left[gap.id] -= 1
            choices.append(choice)
    owed = [gap for gap in names.values() for _ in range(left[gap.id])]
    notes = [f"planner: proposal not used: {why}" for why in refused]
    for i, gap in enumerate(owed):
        why = refused[i] if i < len(refused) else "nothing was proposed"
        choices.append(_default(gap, why))
    return choices, notes


def normalise(text: str) -> str:
    """Lower case, letters and digits only, single spaces: how goals are compared."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def _proposed(gap: Gap, proposal: Proposal) -> _Choice:
    # Easier tasks help only where almost nothing succeeds: elsewhere they are mastered already.
    easier = proposal.difficulty == "easier" and gap.level > 0 and gap.accuracy < EASIER_BELOW
    return _Choice(
        gap=gap,
        strategy=proposal.strategy,
        level=gap.level - 1 if easier else gap.level,
        reason=" ".join(proposal.reason.split()),
        planned_by="planned by the model",
    )


def _default(gap: Gap, why: str) -> _Choice:
    single_turn = environment(gap.environment).task(_first_task(gap)).single_turn
    return _Choice(
        gap=gap,
        strategy="teach" if single_turn else "explore",
        level=gap.level,
        reason="attempt fresh tasks and learn from the world's answers",
        planned_by=f"planned by the bandit ({why})",
    )


def _first_task(gap: Gap) -> TaskRef:
    return TaskRef(environment=gap.environment, skill=gap.skill, level=gap.level, seed=0)


def _repeats(one: _Choice, other: _Choice) -> bool:
    """Same gap, level and strategy for what is nearly the same reason.

    An empty reason repeats nothing: it says nothing that could be the same.
    """
    if (one.gap.id, one.level, one.strategy) != (other.gap.id, other.level, other.strategy):
        return False
    left, right = normalise(one.reason), normalise(other.reason)
    return bool(left) and difflib.SequenceMatcher(None, left, right).ratio() >= NEAR_SAME


def _tasks_met(past: Sequence[ExperimentPlan]) -> set[TaskRef]:
    return {task for earlier in past for task in earlier.tasks}


def _fresh_tasks(
    choice: _Choice, n: int, met: set[TaskRef], rng: np.random.Generator
) -> tuple[int, tuple[TaskRef, ...]] | None:
    """A seed and its tasks that no earlier experiment met, or None after a few redraws."""
    node = Node(choice.gap.environment, choice.gap.skill, choice.level)
    for _ in range(REDRAWS):
        seed = int(rng.integers(2**31))
        tasks = tuple(items(node, n, seed, "train"))
        if met.isdisjoint(tasks):
            return seed, tasks
    return None
