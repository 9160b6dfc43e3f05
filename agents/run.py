"""Beginning, resuming and ending a run: the folder, Ray, the supervisor, the loop.

Everything that is started here is stopped here, whatever happens in between; what a killed driver
leaves behind ends by itself (the engine's guard, the supervisor's pipe, Ray's own watch).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agents import loop
from agents.cluster import ClusterInfo, connect, disconnect, ray_address
from agents.code import code_version
from agents.desk import Desk, EndpointAddress
from agents.live import View
from agents.loop import LoopState, Waiting
from agents.serving import Serving
from agents.stations import Stations
from environments.skills import skill_tree
from regent.config import RunConfig, load_config, to_yaml
from regent.errors import CannotRun
from regent.models.child_server import free_port
from regent.models.engine import Engine
from regent.models.names import weights_folder
from regent.models.weights import checkpoint_digest
from regent.records import Checkpoint
from regent.store import Store
from supervisor.bench import adopt
from supervisor.finding import find
from supervisor.record.folder import RunFolder, open_run
from supervisor.record.ledger import Ledger
from supervisor.service import Supervisor

_ROOM_BYTES = 2 * 1024**3
_ORIGIN = "origin"


class RunState:
    """RUN/state.json: what a run is doing, for whoever looks from outside. Replaced atomically."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.json"
        self.fields: dict[str, Any] = {}
        # What cannot be read is written anew: the ledger has all that matters.
        with contextlib.suppress(OSError, ValueError):
            kept = json.loads(self.path.read_text("utf-8"))
            self.fields = kept if isinstance(kept, dict) else {}

    def set(self, **fields: Any) -> None:
        self.fields |= fields
        partial = self.path.with_suffix(".part")
        partial.write_text(json.dumps(self.fields, indent=1), "utf-8")
        partial.replace(self.path)


def start(config: RunConfig, view: View) -> None:
    """Begin the run that `config` describes, in a folder that must not exist yet, and drive it.

    Raises CannotRun before anything is written where a name does not resolve, the folder exists,
    the engine's port is taken or there is no room; Waiting where it stops for a person.
    """
    folder = config.folder
    if folder.exists():
        begun = (folder / "config.yaml").is_file()
        raise CannotRun(
            f"{folder} exists and a run is never overwritten; choose another folder"
            + (f", or `regent resume {folder}`" if begun else "")
        )
    skill_tree(config.environments)
    for choice in (*config.policy.batch, *config.policy.checkpoint):
        find(choice)
    weights = weights_folder(config.model)
    for other in (config.planner, config.worker):
        if other:
            _endpoint(other)
    ray_address(config.ray)
    _room(folder.parent)
    free_port(config.engine.port)  # the engine asks again, when the folder is there
    (folder / "logs").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    (folder / "supervisor").mkdir(mode=0o700)
    (folder / "config.yaml").write_text(to_yaml(config), "utf-8")
    Store(folder / "store")
    adopt(folder, _ORIGIN, weights)
    _drive(folder, config, view)


def resume(folder: Path, view: View) -> None:
    """Go on with the run in `folder` from what it had; nothing is started for one that finished.

    Raises CannotRun if there is none, if it runs already, or if other code began it.
    """
    if not (folder / "config.yaml").is_file():
        raise CannotRun(f"{folder}: no config.yaml, so no run was begun there; give a run's folder")
    config = load_config(folder / "config.yaml").model_copy(update={"folder": folder})
    if not (folder / "checkpoints" / _ORIGIN).is_dir():
        adopt(folder, _ORIGIN, weights_folder(config.model))
    _refuse_another(folder, _identity(config))
    if RunState(folder).fields.get("state") == "finished":
        view.note(f"{folder} has finished all its rounds; `regent run` begins another")
        return
    _drive(folder, config, view)


def _identity(config: RunConfig) -> dict[str, Any]:
    """What stays one and the same over a run, and stands in its ledger."""
    return {
        "model": config.model,
        "code": code_version(),
        "seed": config.seed,
        "policy": config.policy.id,
    }


def _refuse_another(folder: Path, now: dict[str, Any]) -> None:
    """Raises CannotRun, naming what changed and the mend, where the ledger says otherwise."""
    if not (folder / "ledger.sqlite").exists():
        return
    row = open_run(folder).ledger.find("run", "run")
    begun = row.fields() if row else now
    if begun["code"] != now["code"]:
        commit, _, changed = begun["code"].partition("+")
        mend = "those sources" if changed else f"that code (git checkout {commit})"
        raise CannotRun(
            f"{folder} was begun by code {begun['code']}, this is {now['code']}: a run keeps to "
            f"one code, so that its record explains it; resume it with {mend}, or begin another run"
        )
    for key in now.keys() - {"code"}:
        if begun[key] != now[key]:
            raise CannotRun(
                f"{folder}/config.yaml: {key} is {str(now[key])[:24]}, the run was begun with "
                f"{str(begun[key])[:24]}; put it back, or begin another run"
            )


def _drive(folder: Path, config: RunConfig, view: View) -> None:
    with _alone(folder), contextlib.ExitStack() as stack:
        state = RunState(folder)
        state.set(state="running", pid=os.getpid(), line="", started=datetime.now(UTC).isoformat())
        try:
            _run(folder, config, view, state, stack)
        except Waiting as waiting:
            state.set(state="waiting", line=str(waiting))
            raise
        except CannotRun as error:
            state.set(state="failed", line=str(error))
            raise
        except BaseException as error:
            state.set(
                state="failed", line=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            )
            raise
        state.set(state="finished", line="")


def _run(
    folder: Path, config: RunConfig, view: View, state: RunState, stack: contextlib.ExitStack
) -> None:
    origin = _origin(folder)
    supervisor = Supervisor(folder, config)
    stack.callback(supervisor.stop)
    cluster = connect(config.ray, folder)
    stack.callback(disconnect)
    supervisor.append([("run", _identity(config), "run"), ("checkpoint", origin, None)])
    if not loop.begun(folder):
        supervisor.call("prepare", origin=origin)  # its engine starts beside ours
    serving = Serving(
        folder / "checkpoints",
        lambda: Engine.start(
            folder / "checkpoints" / origin.name, config.engine, folder / "logs" / "engine"
        ),
        view.note,
        config.engine.request_timeout_s,
    )
    stack.callback(serving.stop)
    desk = Desk.start(folder.name, config.experiment.caps, code_version())
    stack.callback(_quietly, desk.stop)
    run = RunFolder(
        folder,
        config,
        Ledger(
            f"sqlite:///{folder.resolve() / 'ledger.sqlite'}", folder / "supervisor", read_only=True
        ),
        Store(folder / "store"),
    )
    state.set(
        dashboard=cluster.dashboard_url,
        metrics=cluster.metrics[0] if cluster.metrics else "",
        mlflow=run.mlflow_uri,
        champion=origin.id,
    )
    view.begin(f"regent run {folder}", config.rounds, _facts(config, cluster))

    def on_station(round_: int, name: str, champion: str) -> None:
        budget = supervisor.call("budget")
        state.set(round=round_, station=name, champion=champion, **budget)

    stations = Stations(
        folder,
        config,
        serving=serving,
        desk=desk,
        supervisor=supervisor,
        view=view,
        on_station=on_station,
        planner=_endpoint(config.planner) if config.planner else None,
        worker=_endpoint(config.worker) if config.worker else None,
    )
    first: LoopState = {"round": 1, "champion": origin.id, "origin": origin.id}
    loop.drive(stations, folder, None if loop.begun(folder) else first)
    state.set(**supervisor.call("budget"))


def _origin(folder: Path) -> Checkpoint:
    return Checkpoint(
        round=0, name=_ORIGIN, digest=checkpoint_digest(folder / "checkpoints" / _ORIGIN)
    )


def _endpoint(name: str) -> EndpointAddress:
    """`NAME@http://host/v1` for the planner or the workers. Raises CannotRun on anything else."""
    model, separator, url = name.partition("@")
    if not separator or not url.startswith(("http://", "https://")):
        raise CannotRun(
            f"'{name}': the planner's or worker's own model is given as NAME@http://host/v1"
        )
    return EndpointAddress(url, model, os.environ.get("OPENAI_API_KEY", ""), name)


def _facts(config: RunConfig, cluster: ClusterInfo) -> dict[str, str]:
    facts = {
        "model": config.model,
        "supervisor": "a process and an engine of its own",
        "workers": f"{config.experiment.workers} Ray actors at once",
        "dashboard": cluster.dashboard_url or "off",
    }
    for number, note in enumerate(cluster.notes, 1):
        facts[f"note {number}"] = note
    return facts


def _room(parent: Path) -> None:
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotRun(
            f"{parent}: {error.strerror or error}; name another folder for the run"
        ) from error
    free = shutil.disk_usage(parent).free
    if free < _ROOM_BYTES:
        raise CannotRun(
            f"{parent}: {free / 1024**3:.1f} GiB free, "
            f"a run needs {_ROOM_BYTES / 1024**3:.0f}; free some space"
        )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One driver a run: a second one is refused, and a killed one's lock is gone with it."""
    import fcntl

    with (folder / "driver.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CannotRun(
                f"{folder}: another process drives this run; `regent status {folder}`"
            ) from error
        yield


def _quietly(work: Callable[[], object]) -> None:
    with contextlib.suppress(Exception):
        work()


def fresh_folder(root: Path) -> Path:
    """A folder for a run that nobody named: by date and time, e.g. `runs/2026-11-24-101500`."""
    return root / f"{datetime.now():%Y-%m-%d-%H%M%S}"
