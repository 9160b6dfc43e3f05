"""What a station reads back: records by id, and what the ledger holds of this and earlier rounds.

Nothing is written here. The state of the loop holds ids only; this is how an id becomes a record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.bandit import Progress
from environments.skills import Node
from regent.records import Batch, Checkpoint, Example, ExperimentPlan, Gap, Trajectory, Verdict
from regent.store import Store
from supervisor.record.ledger import Ledger

State = Mapping[str, Any]


class Reading:
    """The run's store and ledger, read for a station."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store, self._ledger = store, ledger

    def checkpoint(self, id_: str) -> Checkpoint:
        return self._store.get_record(Checkpoint, id_)

    def verdict(self, id_: str) -> Verdict:
        return self._store.get_record(Verdict, id_)

    def references(self, state: State) -> dict[str, Checkpoint]:
        """The two that every candidate is compared with."""
        return {
            "parent": self.checkpoint(state["champion"]),
            "origin": self.checkpoint(state["origin"]),
        }

    def gaps(self, state: State) -> list[Gap]:
        return [self._store.get_record(Gap, gap) for gap in state["gaps"]]

    def plans(self, state: State) -> list[ExperimentPlan]:
        return [self._store.get_record(ExperimentPlan, plan) for plan in state["plans"]]

    def past_plans(self) -> list[ExperimentPlan]:
        """Every plan of the run, whatever its round."""
        return [ExperimentPlan.from_canonical(row.payload) for row in self._ledger.rows("plan")]

    def due(self, plans: list[ExperimentPlan]) -> list[ExperimentPlan]:
        """The plans whose experiment the ledger does not hold yet."""
        return [plan for plan in plans if self._ledger.find("experiment", plan.id) is None]

    def targets(self, state: State) -> list[Node]:
        """The nodes that this round's batch means to change."""
        plans = self.plans(state)
        return sorted({Node(plan.environment, plan.skill, plan.level) for plan in plans})

    def target_skills(self, state: State) -> list[str]:
        return sorted({node.skill_name for node in self.targets(state)})

    def trajectories(self, state: State) -> list[Trajectory]:
        """What this round's experiments left, in the order of the plans."""
        found = []
        for plan in state["plans"]:
            row = self._ledger.find("experiment", plan)
            for trajectory in row.fields()["trajectories"] if row else ():
                found.append(self._store.get_record(Trajectory, trajectory))
        return found

    def batch(self, id_: str) -> Batch:
        return self._store.get_record(Batch, id_)

    def contents(self, batch: Batch) -> tuple[bytes, list[Example]]:
        """A batch's bytes and its examples."""
        examples = [self._store.get_record(Example, example) for example in batch.examples]
        return self._store.get(batch.bytes_digest), examples

    def history(self) -> list[Progress]:
        """Held-out accuracy before and after, of the rounds so far."""
        return [
            Progress(
                skill, row.fields()["round"], gain["before"], gain["after"], gain["n"], gain["n"]
            )
            for row in self._ledger.rows("round")
            for skill, gain in row.fields()["held_out"].items()
        ]
