"""Training as a Ray actor: watched from the driver, restarted when it dies, done once.

The actor opens the run's vault by itself and trains on what the vault gives it, or not at all.
On a machine without a GPU it runs on the driver's node, where the run's folder lies.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from agents.trainer import Trained, train
from regent.config import TrainConfig
from regent.errors import CannotRun
from regent.records import Checkpoint
from regent.store import Store
from supervisor.record.ledger import Ledger
from supervisor.record.vault import Vault

_LOOK_S = 1.0
_RESTARTS = 2
_BEGAN_ANEW = (
    "training began anew, as its process was ended: where less than a twentieth of the memory is "
    "free, Ray ends what takes most"
)


class Trainer:
    """One fine-tuning run. `train` and `progress` may be called at once."""

    def __init__(self) -> None:
        self._progress = (0, 0, 0.0)

    def progress(self) -> tuple[int, int, float, int]:
        """(steps done, steps in all, last loss, its process)."""
        return (*self._progress, os.getpid())

    def train(
        self,
        folder: Path,
        batch: str,
        bytes_digest: str,
        parent: Checkpoint,
        settings: TrainConfig,
        seed: int,
        round: int,
    ) -> Trained:
        ledger = Ledger(
            f"sqlite:///{folder / 'ledger.sqlite'}", folder / "supervisor", read_only=True
        )

        def note(done: int, total: int, loss: float) -> None:
            self._progress = (done, total, loss)

        return train(
            Vault(Store(folder / "store"), ledger),
            batch,
            bytes_digest,
            parent,
            folder / "checkpoints" / parent.name,
            folder / "checkpoints",
            settings,
            seed,
            round,
            note,
        )


def train_on_ray(
    folder: Path,
    batch: str,
    bytes_digest: str,
    parent: Checkpoint,
    settings: TrainConfig,
    seed: int,
    round: int,
    on_progress: Callable[[int, int, float], None],
    on_restart: Callable[[str], None],
) -> Trained:
    """Train in an actor called `trainer-rROUND`. Raises CannotRun where it refused or failed.

    `on_restart` is told, in a line, each time that training began anew since the actor died.
    """
    gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
    options: dict[str, Any] = {
        "name": f"trainer-r{round}",
        "num_cpus": 1,
        "num_gpus": gpus,
        "max_restarts": _RESTARTS,
        "max_task_retries": _RESTARTS,
        "max_concurrency": 2,
        "get_if_exists": True,
        # Ray would give it one thread a CPU asked for; the workers are idle while it trains.
        "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}},
    }
    if not gpus:
        here = ray.get_runtime_context().get_node_id()
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(here, soft=False)
    actor: Any = ray.remote(Trainer).options(**options).remote()
    process = 0
    ref = actor.train.remote(folder.resolve(), batch, bytes_digest, parent, settings, seed, round)
    try:
        while True:
            ready, _ = ray.wait([ref], timeout=_LOOK_S)
            if ready:
                trained: Trained = ray.get(ref)
                return trained
            done, total, loss, now = ray.get(actor.progress.remote())
            if process not in (0, now):
                on_restart(_BEGAN_ANEW)
            process = now
            if total:
                on_progress(done, total, loss)
    except RayTaskError as error:
        cause = error.cause if isinstance(error.cause, Exception) else error
        if isinstance(cause, CannotRun):
            raise CannotRun(str(cause)) from error
        line = " ".join(str(cause).split())[-300:]
        raise CannotRun(f"training failed: {line}; `regent resume {folder}` tries again") from error
    except (RayActorError, OutOfMemoryError) as error:
        raise CannotRun(f"{trainer_died(error)}; `regent resume {folder}` tries again") from error
    finally:
        ray.kill(actor)


def trainer_died(error: RayActorError | OutOfMemoryError) -> str:
    """Why, as far as Ray says: its memory monitor ends what takes most when little is left."""
    if isinstance(error, OutOfMemoryError) or "memory" in str(error).lower():
        return "the trainer was ended again and again for lack of memory: free some"
    return "the trainer died again and again"
