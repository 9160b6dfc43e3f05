"""A run's folder, opened from its record: configuration, ledger, store and vault.

Opens what exists and makes nothing: a run's folder is begun by whoever runs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from regent.config import RunConfig, load_config
from regent.errors import CannotRun
from regent.store import Store
from supervisor.record.ledger import Ledger
from supervisor.record.vault import Vault


@dataclass(frozen=True)
class RunFolder:
    """The parts of a run that its record consists of."""

    path: Path
    config: RunConfig
    ledger: Ledger
    store: Store

    @property
    def vault(self) -> Vault:
        return Vault(self.store, self.ledger)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def mlflow_uri(self) -> str:
        return self.config.mlflow_uri or f"sqlite:///{self.path.resolve() / 'mlflow.sqlite'}"


def open_run(path: Path) -> RunFolder:
    """The record of the run in `path`. Raises CannotRun if no run was begun there."""
    for part in ("config.yaml", "ledger.sqlite", "store"):
        if not (path / part).exists():
            raise CannotRun(f"{path}: no {part}, so no run was begun there; give a run's folder")
    config = load_config(path / "config.yaml")
    ledger = Ledger(f"sqlite:///{path.resolve() / 'ledger.sqlite'}", path / "supervisor")
    return RunFolder(path, config, ledger, Store(path.resolve() / "store"))
