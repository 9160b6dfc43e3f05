"""Joining a Ray cluster, or starting one on this machine.

The address is the configuration's, else `RAY_ADDRESS` (set by `ray job submit` too), else a Ray
of our own is started, its dashboard on loopback and its metrics on a port that is known. Workers
import Regent's packages from the repository root that this file lies in: by path where the
cluster is ours, uploaded as `py_modules` where it is not, or from the job's own working folder
under `ray job submit --working-dir .`.

Ray's own ports listen on every interface (2.60 gives no say in it) and whoever reaches them can
run code, so its token stays required, as is Ray's default for a cluster that it starts itself.
The token lies in `~/.ray/auth_token`, which is made readable by its owner alone; in another
shell say `RAY_AUTH_MODE=token ray list actors`. `RAY_AUTH_MODE=disabled` opts out. The metrics
port asks for nothing and tells only figures.

Does not cover: launching machines (`ray up ray_cluster.yaml`) and what runs on them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read when Ray is imported: `uv run` would otherwise build an environment for every worker.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)

from agents.program import program
from regent.config import RayConfig
from regent.errors import CannotRun
from regent.records import digest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("regent", "environments", "supervisor", "agents")
LOOPBACK = "127.0.0.1"
#: Workers wait on the engine rather than compute, so more of them than cores is right.
LEAST_CPUS = 4
#: Ports tried after a taken one.
PORTS_TRIED = 50
CONNECT_S = 5.0


@dataclass(frozen=True)
class ClusterInfo:
    """Where to look. `metrics` has one address a node; `notes` are lines for a person."""

    address: str
    started: bool
    namespace: str
    dashboard_url: str
    metrics: tuple[str, ...]
    notes: tuple[str, ...]


def connect(config: RayConfig, folder: Path) -> ClusterInfo:
    """Join or start Ray for the run in `folder`.

    The namespace is the run's own, so two runs on one cluster may have actors of one name.
    Raises CannotRun where the address leads nowhere or Ray does not start.
    """
    if ray.is_initialized():
        raise CannotRun("this process is on a Ray cluster already; call disconnect() first")
    absolute = folder.resolve()
    namespace = f"regent-{absolute.name}-{digest(str(absolute).encode())[:6]}"
    address = ray_address(config)
    if address in ("", "local"):
        return _start(config, namespace)
    return _join(address, namespace)


def ray_address(config: RayConfig) -> str:
    """Where to join Ray, empty to start one. Raises CannotRun on a URL: it must be HOST:PORT."""
    address = config.address or os.environ.get("RAY_ADDRESS", "")
    if "://" in address:
        raise CannotRun(
            f"Ray address '{address}': give the head's HOST:PORT (6379 by default), "
            "or submit the run with `ray job submit`"
        )
    return address


def disconnect() -> None:
    """Leave the cluster; one that `connect` started ends with it. Safe to call twice."""
    ray.shutdown()


def runtime_env(started: bool) -> dict[str, Any]:
    """How the workers find Regent's packages.

    A job's own working folder already holds them; a cluster of ours shares this file system;
    any other gets them uploaded (some hundred kilobytes, once).
    """
    variables = {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    if started:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"env_vars": {**variables, "PYTHONPATH": os.pathsep.join(paths)}}
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    given = job.get("runtime_env") or {}
    if "working_dir" in given or "py_modules" in given:
        return {}
    return {
        "env_vars": variables,
        "py_modules": [str(ROOT / name) for name in PACKAGES],
        "excludes": ["__pycache__", "*.pyc"],
    }


def free_port(wanted: int, host: str = LOOPBACK) -> int:
    """`wanted`, or the next free port after it; any free one for 0.

    Raises CannotRun where PORTS_TRIED ports in a row are taken.
    """
    for port in range(wanted, wanted + PORTS_TRIED) if wanted else (0,):
        if port > 65535:
            break
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As servers do: a port whose last owner just left is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise CannotRun(
        f"no port from {wanted} on is free on {host}; set ray.dashboard_port to another"
    )


def _start(config: RayConfig, namespace: str) -> ClusterInfo:
    notes = []
    dashboard_port = free_port(config.dashboard_port)
    if config.dashboard and config.dashboard_port and dashboard_port != config.dashboard_port:
        notes.append(
            f"port {config.dashboard_port} is in use: the dashboard is on {dashboard_port}"
        )
    metrics_port = free_port(config.metrics_port)
    if config.metrics_port and metrics_port != config.metrics_port:
        notes.append(f"port {config.metrics_port} is in use: metrics are on {metrics_port}")
    try:
        context = ray.init(
            address="local",
            num_cpus=max(LEAST_CPUS, os.cpu_count() or 1),
            include_dashboard=config.dashboard,
            dashboard_host=LOOPBACK,
            dashboard_port=dashboard_port,
            namespace=namespace,
            runtime_env=runtime_env(started=True),
            log_to_driver=False,
            logging_level=logging.ERROR,
            _metrics_export_port=metrics_port,
        )
    except Exception as error:
        ray.shutdown()
        raise CannotRun(
            f"Ray did not start: {_line(error)}; see /tmp/ray/session_latest/logs"
        ) from error
    notes += _guard_token()
    return _info(context, True, namespace, notes)


def _join(address: str, namespace: str) -> ClusterInfo:
    if address != "auto":
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        except (OSError, ValueError) as error:
            raise CannotRun(
                f"no Ray answers at '{address}' ({_line(error)}); start one with "
                "`ray start --head`, or leave ray.address and RAY_ADDRESS empty"
            ) from error
    _use_token_if_there()
    try:
        context = ray.init(
            address=address,
            namespace=namespace,
            runtime_env=runtime_env(started=False) or None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:
        ray.shutdown()
        raise CannotRun(f"could not join Ray at '{address}': {_line(error)}") from error
    return _info(context, False, namespace, [])


def _use_token_if_there() -> None:
    """Ray shows a token of its own accord only to `auto`; a head that was started on a machine
    with a token asks for it at its explicit address too. Its own function does the rest."""
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def _guard_token() -> list[str]:
    """Ray writes its token with the default mode; take it from everyone but its owner."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return []
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    with contextlib.suppress(OSError):
        token.chmod(0o600)
    return [
        f"the dashboard asks once for the token that `{program('ray')} get-auth-token` prints; "
        f"in another shell: RAY_AUTH_MODE=token {program('ray')} list actors"
    ]


def _info(context: Any, started: bool, namespace: str, notes: list[str]) -> ClusterInfo:
    url = str(context.dashboard_url or "")
    nodes: list[dict[str, Any]] = ray.nodes()
    return ClusterInfo(
        address=str(context.address_info["gcs_address"]),
        started=started,
        namespace=namespace,
        dashboard_url=f"http://{url}" if url else "",
        metrics=tuple(
            f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
            for node in nodes
            if node["Alive"]
        ),
        notes=tuple(notes),
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
