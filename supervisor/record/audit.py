"""The MLflow view of the ledger: opened, brought up to date and read back only here.

One experiment a lineage, one run for the Regent run, one nested run a round; released batches as
dataset inputs, verdicts and evidence as artifacts, checkpoints as registered model versions with a
`champion` alias. The ledger is the queue: publishing replays whatever the view lacks, every step
can be repeated without a duplicate, and MLflow being down is a line to say, never an error.
What each row becomes is in `publishing`; nothing else in Regent speaks with MLflow.

A client without Regent finds a released batch's SHA-256 whole in the dataset input's tag
`regent.sha256` (and its first 36 digits, all that MLflow keeps, as the dataset's digest).

Does not cover: authority. Where the view and the ledger differ, the ledger is right.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import sqlalchemy as sa

from regent.errors import CannotRun
from regent.store import Store
from supervisor.record.ledger import Ledger
from supervisor.record.publishing import Publishing, champion_version, every, model_name

_MANNERS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


@dataclass(frozen=True)
class Published:
    """What the view shows of one run: batches by full digest, checkpoints by id, and how far.

    `head` is the hash of ledger row `seq`, the last one published. `champion` is None where the
    alias belongs to another run of the lineage, empty where there is no alias.
    """

    seq: int
    head: str
    batches: dict[str, dict[str, str]] = field(default_factory=dict)
    checkpoints: dict[str, str] = field(default_factory=dict)
    champion: str | None = ""


class AuditView:
    """The view at `uri` (an MLflow tracking URI) of runs of one `lineage`.

    `checkpoints` is the folder of weights that model versions point to, where MLflow can read it.
    `seconds` is what the last publishing took.
    """

    def __init__(self, uri: str, lineage: str, *, checkpoints: Path | None = None) -> None:
        self.uri, self.lineage, self.checkpoints = uri, lineage, checkpoints
        self.seconds = 0.0
        self._opened: Any = None

    def publish(
        self, ledger: Ledger, store: Store, *, finished: bool = False, whole: bool = False
    ) -> str | None:
        """Show whatever the view lacks; `whole` looks again at every row, `finished` ends the run.

        Returns None, or one line saying why the view is behind. Never raises.
        """
        started = time.perf_counter()
        try:
            with (ledger.key_folder / "publish.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                rows = ledger.rows()
                publishing = Publishing(
                    self._client(), self.lineage, rows, store, self._artifacts(), self.checkpoints
                )
                publishing.replay(whole, finished)
        except Exception as error:  # a view that fails must never stop or change a verdict
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            return (
                f"MLflow {self.uri}: {first}; the ledger has it all, "
                "`regent audit publish` catches up"
            )
        finally:
            self.seconds = time.perf_counter() - started
        return None

    def published(self, run_key: str) -> Published | None:
        """What the view shows of the run whose genesis row hashes to `run_key`; None if nothing.

        Raises CannotRun if MLflow cannot be asked.
        """
        try:
            return self._published(run_key)
        except CannotRun:
            raise
        except Exception as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CannotRun(f"MLflow {self.uri}: {first}; start it, then verify again") from error

    def artifact(self, run_id: str, path: str, folder: Path) -> bytes:
        """The bytes of one artifact, fetched into `folder`. Raises CannotRun if it is not there."""
        try:
            local = self._client().download_artifacts(run_id, path, str(folder))
            return Path(local).read_bytes()
        except Exception as error:
            raise CannotRun(f"MLflow {self.uri}: no artifact {path} in run {run_id}") from error

    def _published(self, run_key: str) -> Published | None:
        client = self._client()
        experiment = client.get_experiment_by_name(self.lineage)
        if experiment is None:
            return None
        runs = every(
            client.search_runs,
            experiment_ids=[experiment.experiment_id],
            filter_string=f"tags.`regent.run` = '{run_key}'",
        )
        parent = next((r for r in runs if "regent.round" not in r.data.tags), None)
        if parent is None:
            return None
        batches = {}
        for run in runs:
            for dataset_input in run.inputs.dataset_inputs:
                tags = {tag.key: tag.value for tag in dataset_input.tags}
                if "regent.sha256" in tags:
                    said = {"digest": dataset_input.dataset.digest, "run_id": run.info.run_id}
                    batches[tags["regent.sha256"]] = tags | said
        name = model_name(self.lineage)
        versions = {
            str(v.version): v.tags
            for v in every(client.search_model_versions, filter_string=f"name = '{name}'")
        }
        alias = champion_version(client, name)
        tags = versions.get(alias, {}) if alias else {}
        ours = tags.get("regent.run", run_key) == run_key
        return Published(
            seq=int(parent.data.tags.get("regent.published", -1)),
            head=parent.data.tags.get("regent.head", ""),
            batches=batches,
            checkpoints={
                t["regent.checkpoint"]: t.get("regent.digest", "")
                for t in versions.values()
                if "regent.checkpoint" in t
            },
            champion=tags.get("regent.checkpoint", "") if ours else None,
        )

    def _client(self) -> Any:
        if self._opened is None:
            _reach(self.uri)
            for name, value in _MANNERS.items():
                os.environ.setdefault(name, value)
            from mlflow import MlflowClient  # two seconds to import: only whoever looks pays

            for name in ("alembic", "mlflow"):
                logging.getLogger(name).setLevel(logging.ERROR)
            self._opened = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        return self._opened

    def _artifacts(self) -> str | None:
        """Where artifacts go; without a server they would land in the working directory."""
        if not self.uri.startswith("sqlite:///"):
            return None
        database = Path(unquote(self.uri.removeprefix("sqlite:///"))).resolve()
        return (database.parent / "mlflow_artifacts").as_uri()


def _reach(uri: str) -> None:
    """Fails at once where MLflow's own client would retry for minutes."""
    parsed = urlparse(uri)
    if parsed.scheme in ("http", "https"):
        port = parsed.port or (443 if parsed.scheme == "https" else 80)
        with socket.create_connection((parsed.hostname or "", port), timeout=3):
            return
    engine = sa.create_engine(uri)
    try:
        sa.inspect(engine).get_table_names()
    finally:
        engine.dispose()
