"""A run's folder after one honest round, with a released batch and a crowned successor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regent.config import RunConfig, to_yaml
from regent.models.weights import checkpoint_digest
from regent.records import (
    Checkpoint,
    Example,
    ExperimentPlan,
    Gap,
    Measurement,
    Message,
    Promotion,
    Provenance,
    TaskRef,
    TrainingRun,
    Trajectory,
    Verdict,
    canonical_json,
)
from supervisor.record.folder import RunFolder, open_run
from supervisor.record.ledger import Ledger
from supervisor.record.vault import build_batch

LINEAGE = "regent"


def weights(folder: Path, content: bytes) -> str:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(content)
    (folder / "config.json").write_text("{}")
    return checkpoint_digest(folder)


PAGE = b"<!doctype html><title>what differs</title>"


def verdict_on(
    subject: str, kind: Any, evidence: str = "nothing differs", **fields: Any
) -> Verdict:
    seen = Measurement(
        instrument="diff",
        quantity="drift",
        reference="parent",
        outcome="measured",
        estimate=0.01,
        low=0.0,
        high=0.02,
        tolerance=0.1,
        tokens=12,
        evidence=evidence,
    )
    return Verdict(
        subject=subject,
        subject_kind=kind,
        reasons=("all within tolerance",),
        measurements=(seen,),
        policy="p",
        **{"decision": "approve"} | fields,
    )


def one_round(path: Path) -> RunFolder:
    """A run's folder after one honest round."""
    path.mkdir(exist_ok=True)
    (path / "config.yaml").write_text(to_yaml(RunConfig(folder=path, lineage=LINEAGE)))
    (path / "store").mkdir()
    Ledger(f"sqlite:///{path / 'ledger.sqlite'}", path / "supervisor")
    run = open_run(path)
    ledger = run.ledger
    ledger.append("run", {"model": "smollm2", "seed": 0}, subject="run")
    origin = Checkpoint(round=0, name="origin", digest=weights(run.checkpoints / "origin", b"one"))
    ledger.append("checkpoint", origin)
    gap = Gap(
        environment="reasoning",
        skill="chain_sum",
        level=0,
        accuracy=0.4,
        low=0.3,
        high=0.5,
        target=0.8,
        n=64,
    )
    task = TaskRef(environment="reasoning", skill="chain_sum", level=0, seed=71)
    plan = ExperimentPlan(
        round=1,
        gap=gap.id,
        environment="reasoning",
        skill="chain_sum",
        level=0,
        goal="practise sums",
        strategy="teach",
        tasks=(task,),
        seed=3,
    )
    trajectory = Trajectory(
        plan=plan.id,
        task=task,
        agent="worker-2",
        model="smollm2",
        code="v0",
        steps=(),
        score=1.0,
        outcome="verified",
    )
    ledger.extend([("gap", gap, None), ("plan", plan, None), ("trajectory", trajectory, None)])
    examples = [
        Example(
            messages=(Message(role="assistant", content=str(number)),),
            provenance=Provenance(
                trajectory=trajectory.id if number == 0 else "",
                plan=plan.id,
                task=task,
                agent="worker-2",
                model="smollm2",
                code="v0",
                source="world_answer",
            ),
        )
        for number in range(3)
    ]
    batch, data = build_batch(examples, 1, ["reasoning/chain_sum"])
    run.vault.deposit(batch, data, examples)
    dropped = [{"example": batch.examples[2], "disposition": "drop", "reason": "duplicate"}]
    verdict = verdict_on(batch.id, "batch", dispositions=dropped)
    ledger.append("verdict", verdict)
    released = run.vault.release(batch, verdict).fields()["released_digest"]
    training = TrainingRun(
        round=1, checkpoint=origin.id, batch=batch.id, bytes_digest=released, settings={}, seed=0
    )
    ledger.append("training_run", training)
    successor = Checkpoint(
        round=1,
        name="r1",
        digest=weights(run.checkpoints / "r1", b"two"),
        training_run=training.id,
        parents=(origin.id,),
    )
    ledger.append("checkpoint", successor)
    kept = run.store.put(canonical_json({"page": run.store.put(PAGE)}))
    fit = verdict_on(successor.id, "checkpoint", evidence=kept)
    ledger.append("verdict", fit)
    ledger.append("promotion", Promotion(round=1, checkpoint=successor.id, verdict=fit.id))
    ledger.append(
        "metrics",
        {"round": 1, "metrics": {"seconds/train": 3.5, "tokens": 900}},
        subject="round 1",
    )
    return run
