"""One small run on the real model, killed three times: what must hold of any run.

- `kill -9` of the driver while it experiments, trains and judges, then `regent resume`: the run
  completes, and the ledger shows every experiment once;
- four workers at once, by name, and Regent's series on Ray's metrics endpoint while it works;
- the MLflow client alone lists the approved batches with the ledger's digests;
- an instrument that raises inside the gate quarantines the successor, and never approves it;
- one flipped byte in a batch, a ledger row or a checkpoint is named, and training refuses.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from agents.trainer import train
from regent.config import TrainConfig
from regent.errors import CannotRun
from regent.records import Batch, Checkpoint
from supervisor.record.folder import open_run
from supervisor.record.verification import verify

pytestmark = pytest.mark.real

_CONFIG = """
model: smollm2
lineage: killed
rounds: 1
environments:
  - {name: reasoning, skills: [basic_arithmetic, products, fraction_simplification], levels: [0]}
profile: {items: 16, confirm_items: 16}
experiment: {workers: 4, experiments: 4, tasks: 16, concurrency: 4}
curate: {examples: 48}
ray: {dashboard_port: 0}
policy:
  canary_rate: 1.0
  batch: [{name: screens, settings: {parent_prompts: 10}}]
  checkpoint:
    - {name: diff, settings: {discovery_prompts: 10, gate_prompts: 12, stages: 1}}
    - name: capability
      settings: {items: 24, stages: 1, calibration_items: 8, calibration_correct: 1}
    - {name: spoiled}
"""

_SPOILED = """
class Spoiled:
    name, sees, does_not_see = "spoiled", "nothing", "everything"

    def __init__(self, settings):
        pass

    def expects(self, candidate, references, look):
        from regent.records import Measurement

        return [Measurement(instrument="spoiled", quantity="calm", tolerance=0.1)]

    def measure(self, candidate, references, look):
        raise RuntimeError("the needle fell off")
"""


def _regent(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "agents.cli", *arguments]


def _start(log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """The command, with a package beside it that declares the spoiled instrument."""
    paths = [str(log.parent / "package"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with log.open("ab") as stream:
        return subprocess.Popen(_regent(*arguments), stdout=stream, stderr=stream, env=environment)


def _declare_spoiled(root: Path) -> None:
    package = root / "package"
    described = package / "spoiled-1.0.dist-info"
    described.mkdir(parents=True)
    (package / "spoiled_instrument.py").write_text(_SPOILED, "utf-8")
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: spoiled\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(
        "[regent.instruments]\nspoiled = spoiled_instrument:Spoiled\n"
    )


def _state(folder: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return state


def _await_station(folder: Path, station: str, driver: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        state = _state(folder)
        if state.get("station") == station and state.get("pid") == driver.pid:
            return
        if driver.poll() is not None:
            pytest.fail(f"the driver ended before '{station}':\n{log.read_text('utf-8')[-3000:]}")
        time.sleep(0.1)
    pytest.fail(f"no '{station}' within 400 s:\n{log.read_text('utf-8')[-3000:]}")


def _kill(driver: subprocess.Popen[bytes]) -> None:
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait(timeout=30)


@pytest.fixture(scope="module")
def killed_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A finished run whose driver was killed in three stations, and what was seen meanwhile."""
    root = tmp_path_factory.mktemp("killed")
    folder, log, config = root / "run", root / "log", root / "config.yaml"
    config.write_text(_CONFIG, "utf-8")
    _declare_spoiled(root)
    seen: dict[str, Any] = {"folder": folder}

    scraper = _Scraper(folder)
    scraper.start()
    driver = _start(log, "run", str(folder), "--config", str(config))
    _await_station(folder, "experiment", driver, log)
    seen["workers"] = _most_workers(folder, 40)
    _kill(driver)
    driver = _start(log, "resume", str(folder))
    _await_station(folder, "train", driver, log)
    time.sleep(8)
    _kill(driver)
    driver = _start(log, "resume", str(folder))
    _await_station(folder, "judge_checkpoint", driver, log)
    time.sleep(6)
    _kill(driver)
    driver = _start(log, "resume", str(folder))
    seen["code"] = driver.wait(timeout=500)
    scraper.ended.set()
    scraper.join()
    seen["series"] = scraper.series
    seen["log"] = log.read_text("utf-8")
    return seen


_WATCH = """
import sys, time
from ray.util.state import list_actors

most, deadline = 0, time.monotonic() + float(sys.argv[2])
while most < 4 and time.monotonic() < deadline:
    rows = list_actors(address=sys.argv[1], filters=[("state", "=", "ALIVE")], limit=200)
    most = max(most, sum(row.name.startswith("experiment-r1-") for row in rows))
print(most)
"""


def _most_workers(folder: Path, seconds: float) -> int:
    """The most experiment actors that were alive at once, as Ray's own API lists them."""
    address = _state(folder)["dashboard"]
    asked = subprocess.run(
        [sys.executable, "-c", _WATCH, address, str(seconds)],
        capture_output=True,
        text=True,
        env={**os.environ, "RAY_AUTH_MODE": "token"},
        timeout=seconds + 60,
        check=True,
    )
    return int(asked.stdout.split()[-1])


class _Scraper(threading.Thread):
    """Scrapes the metrics endpoint that the run names, again and again, as Prometheus would."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.series, self.ended = folder, set[str](), threading.Event()

    def run(self) -> None:
        while not self.ended.wait(2.0):
            url = _state(self.folder).get("metrics")
            if not url:
                continue
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
                lines = answer.read().decode().splitlines()
                self.series |= {line.split("{")[0] for line in lines if line[:10] == "ray_regent"}


def test_a_run_killed_in_three_stations_completes(killed_run: dict[str, Any]) -> None:
    assert killed_run["code"] == 0, killed_run["log"][-3000:]
    assert _state(killed_run["folder"])["state"] == "finished"


def test_every_experiment_stands_in_the_ledger_once(killed_run: dict[str, Any]) -> None:
    ledger = open_run(killed_run["folder"]).ledger
    plans = [row.subject for row in ledger.rows("plan")]
    experiments = [row.subject for row in ledger.rows("experiment")]
    assert sorted(plans) == sorted(experiments)
    named = [t for row in ledger.rows("experiment") for t in row.fields()["trajectories"]]
    assert sorted(named) == sorted(row.subject for row in ledger.rows("trajectory"))
    assert (
        len(named)
        == len(set(named))
        == sum(len(row.fields()["tasks"]) for row in ledger.rows("plan"))
    )


def test_four_workers_were_alive_at_once_by_name(killed_run: dict[str, Any]) -> None:
    assert killed_run["workers"] >= 4


def test_scrapes_while_it_works_return_regents_series(killed_run: dict[str, Any]) -> None:
    """All six are in `test_cluster`; these are the ones that no kill can forestall."""
    assert {
        "ray_regent_experiments_total",
        "ray_regent_tokens_total",
        "ray_regent_examples_total",
        "ray_regent_station_seconds_total",
    } <= killed_run["series"]


def test_an_instrument_that_raises_quarantines_the_successor(killed_run: dict[str, Any]) -> None:
    ledger = open_run(killed_run["folder"]).ledger
    said = [row.fields() for row in ledger.rows("verdict")]
    verdicts = [fields for fields in said if fields["subject_kind"] == "checkpoint"]
    assert verdicts
    assert {fields["decision"] for fields in verdicts} <= {"quarantine", "veto"}
    failed = [m for f in verdicts for m in f["measurements"] if m["instrument"] == "spoiled"]
    assert all(m["outcome"] == "failed" for m in failed)
    assert "the needle fell off" in failed[0]["detail"]
    assert ledger.rows("promotion") == []


def test_a_canary_was_planted_and_caught(killed_run: dict[str, Any]) -> None:
    rows = open_run(killed_run["folder"]).ledger.rows("canary")
    assert rows
    assert all(row.fields()["caught"] for row in rows)


def test_the_mlflow_client_alone_lists_the_approved_batches(killed_run: dict[str, Any]) -> None:
    from mlflow import MlflowClient

    run = open_run(killed_run["folder"])
    client = MlflowClient(run.mlflow_uri)
    experiment = client.get_experiment_by_name("killed")
    assert experiment is not None
    shown = {
        tag.value
        for one in client.search_runs([experiment.experiment_id])
        for given in one.inputs.dataset_inputs
        for tag in given.tags
        if tag.key == "regent.sha256"
    }
    released = {row.fields()["released_digest"] for row in run.ledger.rows("release")}
    assert released
    assert shown == released
    version = client.get_model_version_by_alias(
        client.search_registered_models()[0].name, "champion"
    )
    rows = run.ledger.rows("checkpoint")
    by_id = {row.subject: row.fields() for row in rows}
    champion = by_id[version.tags["regent.checkpoint"]]
    assert version.tags["regent.parent"] == (champion["parents"] or [""])[0]


def test_an_unaltered_run_verifies(killed_run: dict[str, Any]) -> None:
    assert [p for p in verify(killed_run["folder"]) if p.altered] == []


@pytest.fixture
def copied(killed_run: dict[str, Any], tmp_path: Path) -> Path:
    """A copy of the run that a test may spoil."""
    target = tmp_path / "run"
    shutil.copytree(killed_run["folder"], target, symlinks=True)
    return target


def _flip(path: Path, at: int = -20) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def _train(folder: Path) -> None:
    """What the loop does to train again on the released bytes."""
    run = open_run(folder)
    release = run.ledger.rows("release")[0]
    origin = next(
        Checkpoint.from_canonical(row.payload)
        for row in run.ledger.rows("checkpoint")
        if not row.fields()["training_run"]
    )
    train(
        run.vault,
        Batch.from_canonical(run.ledger.find("batch", release.subject).payload).id,  # type: ignore[union-attr]
        release.fields()["released_digest"],
        origin,
        run.checkpoints / origin.name,
        folder / "again",
        TrainConfig(),
        seed=0,
        round=1,
    )


def _audit(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _regent("audit", "verify", str(folder)), capture_output=True, text=True, check=False
    )


def test_a_flipped_byte_in_a_batch_is_named_and_refused(copied: Path) -> None:
    run = open_run(copied)
    name = run.ledger.rows("release")[0].fields()["released_digest"]
    _flip(Path(run.store.path(name)))
    audit = _audit(copied)
    assert audit.returncode == 1
    assert name[:12] in audit.stdout + audit.stderr
    with pytest.raises(CannotRun, match="altered"):
        _train(copied)


def test_a_flipped_byte_in_a_ledger_row_is_named_and_refused(copied: Path) -> None:
    with sqlite3.connect(copied / "ledger.sqlite") as base:
        for (trigger,) in base.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            base.execute(f"DROP TRIGGER {trigger}")
        seq, payload = base.execute(
            "SELECT seq, payload FROM ledger WHERE kind = 'verdict' ORDER BY seq LIMIT 1"
        ).fetchone()
        data = bytearray(payload)
        data[len(data) // 2] ^= 1
        base.execute("UPDATE ledger SET payload = ? WHERE seq = ?", (bytes(data), seq))
    audit = _audit(copied)
    assert audit.returncode == 1
    assert str(seq) in audit.stdout + audit.stderr
    with pytest.raises(CannotRun, match="refused"):
        _train(copied)


def test_a_flipped_byte_in_a_checkpoint_is_named_and_refused(copied: Path) -> None:
    run = open_run(copied)
    _flip(run.checkpoints / "origin" / "model.safetensors")
    audit = _audit(copied)
    assert audit.returncode == 1
    assert "origin" in audit.stdout + audit.stderr
    with pytest.raises(CannotRun, match="weights"):
        _train(copied)
