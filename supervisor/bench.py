"""The supervisor's bench: where a candidate is judged, recorded and, if approved, released.

Everything here happens inside the supervisor's own process. Order matters and is the same for each
subject: deposit or register, judge, write the verdict into the ledger, only then release.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from environments.registry import environment
from environments.skills import Node, items, normalise_prompt, skill_tree
from regent.config import RunConfig
from regent.errors import CannotRun
from regent.models.engine import Engine
from regent.models.speaker import Speaker
from regent.models.weights import altered
from regent.records import Batch, Checkpoint, Example, Record, Reference, Verdict
from regent.store import Store
from supervisor.canaries import make_canary
from supervisor.diffing import prompts as diff_prompts
from supervisor.gate import Gate
from supervisor.instrument import kept_page
from supervisor.record.audit import AuditView
from supervisor.record.folder import RunFolder
from supervisor.record.ledger import Ledger
from supervisor.record.vault import Vault
from supervisor.served import ServedCheckpoint

Entry = tuple[str, Record | dict[str, Any], str | None]
_HELD_OUT = 64  # items a node that no batch may contain


class Bench:
    """One run's gate, ledger, vault and view."""

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self.folder, self.config = folder, config
        self.own = folder / "supervisor"
        self.own.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.store = Store(folder / "store")
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", self.own)
        self.vault = Vault(self.store, self.ledger)
        self.gate = Gate(config.policy, self.own, recorder=self._record_verdict, seed=config.seed)
        run = RunFolder(folder, config, self.ledger, self.store)
        self.view = AuditView(run.mlflow_uri, config.lineage, checkpoints=run.checkpoints)
        self.nodes: list[Node] = skill_tree(config.environments)
        self.skills = tuple(node.name for node in self.nodes)
        self._engine: Engine | None = None
        self._starting = threading.Lock()

    def append(self, entries: Sequence[Entry]) -> int:
        """Rows for the ledger, each once; records are kept in the store as well."""
        for _, record, _ in entries:
            if isinstance(record, Record):
                self.store.put_record(record)
        return len(
            self.ledger.extend([(kind, record, subject) for kind, record, subject in entries])
        )

    def prepare(self, origin: Checkpoint) -> None:
        """Start the supervisor's own engine on the origin, beside whatever else is starting."""
        folder = self._weights(origin)

        def begin() -> None:
            # What goes wrong here is said when the engine is asked for: it is started then.
            with contextlib.suppress(CannotRun):
                self._served(folder)

        threading.Thread(target=begin, name="engine", daemon=True).start()

    def judge_batch(
        self, batch: Batch, data: bytes, examples: list[Example], references: dict[str, Checkpoint]
    ) -> dict[str, Any]:
        """Verdict on a batch; approved bytes are released. A canary may be judged beside it."""
        before = dict(self.gate.costs)
        canaries = self._canary(batch, examples, references)
        self.vault.deposit(batch, data, examples)
        verdict = self._judge_batch(batch, examples, references)
        released = ""
        if verdict.decision == "approve":
            released = str(self.vault.release(batch, verdict).fields()["released_digest"])
        return {
            "verdict": verdict,
            "released": released,
            "canaries": canaries,
            "costs": self._costs_since(before),
        }

    def judge_checkpoint(
        self, checkpoint: Checkpoint, references: dict[str, Checkpoint], targets: list[str]
    ) -> dict[str, Any]:
        """Verdict on a successor, against its parent and the origin."""
        before = dict(self.gate.costs)
        self.append([("checkpoint", checkpoint, None)])
        verdict = self.gate.judge_checkpoint(
            checkpoint,
            self._speaker(checkpoint),
            self._references(references),
            targets=targets,
            skills=self.skills,
        )
        return {"verdict": verdict, "costs": self._costs_since(before)}

    def release_reviewed(self, batch: Batch, verdict: Verdict) -> str:
        """The released digest of a quarantined batch that a person let go, or empty."""
        review = self.ledger.find("review", verdict.id)
        if review is None or review.fields().get("action") != "release":
            return ""
        return str(self.vault.release(batch, verdict).fields()["released_digest"])

    def review_of(self, verdict_id: str) -> str:
        """What a person decided on a quarantined verdict: `release`, `reject` or empty."""
        review = self.ledger.find("review", verdict_id)
        return str(review.fields().get("action", "")) if review else ""

    def budget(self) -> dict[str, float]:
        return {"alpha": self.config.policy.alpha, "spent": self.gate.budget.spent}

    def publish(self, finished: bool = False) -> str:
        """Bring the MLflow view up to date; a line where it is behind, else empty."""
        return self.view.publish(self.ledger, self.store, finished=finished) or ""

    def stop(self) -> None:
        """End the engine. One that is just starting ends with this process, by its guard."""
        if self._starting.acquire(timeout=1.0):
            if self._engine is not None:
                self._engine.stop()
            self._starting.release()

    def _judge_batch(
        self, batch: Batch, examples: list[Example], references: dict[str, Checkpoint]
    ) -> Verdict:
        return self.gate.judge_batch(
            batch,
            examples,
            self._references(references),
            targets=batch.targets,
            skills=self.skills,
            forbidden=self._forbidden,
            known=self._known(batch),
        )

    def _canary(
        self, batch: Batch, examples: list[Example], references: dict[str, Checkpoint]
    ) -> list[dict[str, Any]]:
        """At the policy's rate, judges a spoiled copy of the batch too; caught unless approved."""
        rng = np.random.default_rng([self.config.seed, batch.round, 77])
        if rng.random() >= self.config.policy.canary_rate:
            return []
        kind, canary, data, spoiled = make_canary(batch, examples, rng)
        self.vault.deposit(canary, data, spoiled)
        verdict = self._judge_batch(canary, spoiled, references)
        said = {
            "batch": canary.id,
            "kind_of_harm": kind,
            "round": batch.round,
            "caught": verdict.decision != "approve",
            "verdict": verdict.id,
        }
        self.ledger.append("canary", said, subject=canary.id)
        return [said]

    def _record_verdict(self, verdict: Verdict) -> None:
        kept = self.own / "scratch" / "evidence"
        for measurement in verdict.measurements:
            evidence = kept / f"{measurement.evidence}.json"
            if measurement.evidence and evidence.is_file():
                self.store.put(evidence.read_bytes())
                page = kept_page(evidence)
                if page is not None:
                    self.store.put(page.read_bytes())
        self.append([("verdict", verdict, None)])

    def _references(self, references: dict[str, Checkpoint]) -> dict[Reference, Speaker]:
        return {cast(Reference, role): self._speaker(c) for role, c in references.items()}

    def _speaker(self, checkpoint: Checkpoint) -> Speaker:
        folder = self._weights(checkpoint)
        return ServedCheckpoint(
            checkpoint.id,
            folder,
            lambda: self._served(folder),
            lambda: self._engine.folder if self._engine else None,
        )

    def _weights(self, checkpoint: Checkpoint) -> Path:
        """The checkpoint's folder, its bytes held to its digest first."""
        folder = self.folder / "checkpoints" / checkpoint.name
        wrong = altered(folder, checkpoint.digest) if folder.is_dir() else "they are missing"
        if wrong:
            raise CannotRun(
                f"checkpoint {checkpoint.name}: its weights are not those recorded; "
                f"restore {folder} from a copy"
            )
        return folder

    def _served(self, folder: Path) -> Engine:
        with self._starting:
            if self._engine is None:
                self._engine = Engine.start(
                    folder, self.config.engine, self.folder / "logs" / "supervisor"
                )
            return self._engine

    @cached_property
    def _forbidden(self) -> frozenset[str]:
        """Prompts that no batch may hold: the diff's gate prompts and this run's held-out items."""
        asked = {normalise_prompt(prompt.turns) for prompt in diff_prompts.load("gate")}
        for node in self.nodes:
            asked |= {
                normalise_prompt(environment(ref.environment).task(ref).messages)
                for ref in items(node, _HELD_OUT, self.config.seed, "held_out")
            }
        return frozenset(asked)

    def _known(self, batch: Batch) -> frozenset[str]:
        """Ids of examples that were released before."""
        known: set[str] = set()
        for row in self.ledger.rows("release"):
            if row.subject != batch.id:
                found = self.ledger.find("batch", row.subject)
                if found is not None:
                    known.update(Batch.from_canonical(found.payload).examples)
        return frozenset(known)

    def _costs_since(self, before: dict[str, float]) -> dict[str, float]:
        return {name: s - before.get(name, 0.0) for name, s in self.gate.costs.items()}


def adopt(folder: Path, name: str, weights: Path) -> Path:
    """Copy the origin's weights into the run, so that the run holds all that it rests on."""
    target = folder / "checkpoints" / name
    if not target.exists():
        partial = target.with_name(f"{name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(weights, partial)
        partial.rename(target)
    return target
