"""Trains a successor on approved bytes, which it can get from nowhere but the supervisor's vault.

A training run is named by its record, so doing it again after a crash finds what was finished and
gives it back instead of training twice. Does not cover: whether the successor may succeed, which
the supervisor judges, nor how weights are fitted (`regent.models.finetune`).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from regent.config import TrainConfig
from regent.errors import CannotRun
from regent.models.finetune import FinetuneReport, Progress, finetune
from regent.models.weights import MARKER, altered, checkpoint_digest
from regent.records import Checkpoint, TrainingRun, digest
from supervisor.record.vault import Vault


@dataclass(frozen=True)
class Trained:
    """A successor: its records, where its weights lie, and what training did.

    `reused` says that an earlier attempt at this very run had already finished.
    """

    run: TrainingRun
    checkpoint: Checkpoint
    folder: Path
    report: FinetuneReport
    reused: bool = False


def train(
    vault: Vault,
    batch: str,
    bytes_digest: str,
    parent: Checkpoint,
    parent_folder: Path,
    out_root: Path,
    settings: TrainConfig,
    seed: int,
    round: int,
    progress: Progress | None = None,
) -> Trained:
    """Train `parent` on the released bytes called `bytes_digest`, into a folder under `out_root`.

    The folder is called `rROUND-` and 12 digits of the run's id. `batch` is the batch's id, and
    `bytes_digest` the *released* digest, which differs from the batch's own where the verdict
    dropped examples. Raises CannotRun where the vault refuses, or the parent's weights are not
    those that its record names.
    """
    data = vault.fetch(bytes_digest)
    if digest(data) != bytes_digest:
        raise CannotRun(f"the vault gave other bytes than {bytes_digest[:12]}; see `regent audit`")
    if altered(parent_folder, parent.digest):
        raise CannotRun(
            f"{parent_folder}: these weights are not checkpoint {parent.digest[:12]}; "
            "restore them from a copy"
        )
    run = TrainingRun(
        parents=(parent.id, batch),
        round=round,
        checkpoint=parent.id,
        batch=batch,
        bytes_digest=bytes_digest,
        settings=settings.model_dump(mode="json"),
        seed=seed,
    )
    folder = out_root / f"r{round}-{run.id[:12]}"
    finished = _finished(folder, run)
    if finished is not None:
        return finished
    if folder.exists():  # an attempt that died before it was marked, or was altered since
        shutil.rmtree(folder)
    report = finetune(parent_folder, data, folder, settings, seed=seed, progress=progress)
    named = checkpoint_digest(folder)
    mark = {"run": run.id, "digest": named, "report": asdict(report)}
    partial = folder / f"{MARKER}.part"
    partial.write_text(json.dumps(mark, indent=1, sort_keys=True), encoding="utf-8")
    partial.replace(folder / MARKER)
    return Trained(run, _checkpoint(run, folder, named), folder, report)


def _finished(folder: Path, run: TrainingRun) -> Trained | None:
    """What an earlier attempt at this run left, if it is whole and unaltered."""
    try:
        mark = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        report = FinetuneReport(**mark["report"])
        named, own = str(mark["digest"]), mark["run"] == run.id
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not own or altered(folder, named):
        return None
    return Trained(run, _checkpoint(run, folder, named), folder, report, reused=True)


def _checkpoint(run: TrainingRun, folder: Path, named: str) -> Checkpoint:
    return Checkpoint(
        parents=(run.checkpoint,),
        round=run.round,
        name=folder.name,
        digest=named,
        training_run=run.id,
    )
