"""One supervised round on a cluster of two nodes, then one as a job submitted to a local head.

    python -m benchmarks.cluster [--quick] [--json] [--only {nodes,job}]

A `ray.cluster_utils.Cluster` on this machine, a head and a second node: on it `regent run` with one
round of configs/default.yaml by RAY_ADDRESS, while Ray is asked which of Regent's actors it has and
where. Then the same by `ray job submit --working-dir` to a head alone. `--quick` is one tiny round
by RAY_ADDRESS. Whole runs write benchmarks/results/cluster.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import yaml
from ray._private.authentication.authentication_token_setup import (
    enable_token_auth_by_default,
    ensure_token_if_auth_enabled,
)
from ray.util.state import list_actors

from agents.cluster import ROOT, free_port
from benchmarks.loop import QUICK, figures_of
from benchmarks.report import bar, finish

_ASK_EVERY_S = 2.0


@contextmanager
def a_cluster(nodes: int) -> Iterator[tuple[str, str]]:
    """(address, dashboard) of a head and `nodes` - 1 more, that asks for a token."""
    from ray.cluster_utils import Cluster

    enable_token_auth_by_default()
    ensure_token_if_auth_enabled()
    port = free_port(0)
    # Each node's agent on a port of its own: see docs/cluster.md.
    node = {"num_cpus": 2, "dashboard_agent_listen_port": 0}
    head = {**node, "include_dashboard": True, "dashboard_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(1, nodes):
            cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False)
        yield str(cluster.address), f"http://127.0.0.1:{port}"
    finally:
        ray.shutdown()
        cluster.shutdown()


def by_address(address: str, folder: Path, config: Path) -> dict[str, Any]:
    """`regent run` on the cluster; the figures of its run, and which actors were seen where."""
    command = [sys.executable, "-m", "agents.cli", "run", str(folder), "-c", str(config)]
    settings = os.environ | {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "token"}
    began, seen = time.monotonic(), dict[str, str]()
    with subprocess.Popen(command, env=settings, stdout=sys.stderr) as run:
        while run.poll() is None:
            for actor in list_actors(filters=[("state", "=", "ALIVE")], limit=1_000):
                if actor.name:
                    seen[actor.name] = str(actor.node_id)
            time.sleep(_ASK_EVERY_S)
    if run.returncode:
        raise RuntimeError(f"regent run ended with {run.returncode}")
    workers = {name: node for name, node in seen.items() if name.startswith("experiment-")}
    return {
        **_told(folder, began),
        "actors": sorted(seen),
        "nodes_with_experiments": len(set(workers.values())),
    }


def as_job(dashboard: str, folder: Path, config: Path) -> dict[str, Any]:
    """The same by `ray job submit`, from the repository's root."""
    command = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--address", dashboard]
    command += ["--working-dir", ".", "--", sys.executable, "-m", "agents.cli", "run", str(folder)]
    began = time.monotonic()
    subprocess.run(
        [*command, "-c", str(config)],
        check=True,
        cwd=ROOT,
        env=os.environ | {"RAY_AUTH_MODE": "token"},
        stdout=sys.stderr,
    )
    return _told(folder, began)


def _told(folder: Path, began: float) -> dict[str, Any]:
    found = figures_of(folder)
    (only,) = found["rounds"]
    return {
        "seconds": round(time.monotonic() - began),
        **{key: only[key] for key in ("experiments", "examples", "batch", "checkpoint")},
        "held_out": only["held_out"],
    }


def bars_of(figures: dict[str, Any]) -> dict[str, Any]:
    """What is claimed of each way: the round ends, and a trained skill rises."""
    bars = {}
    for way, said in figures.items():
        best = max((gain["low"] for gain in said["held_out"].values()), default=-1.0)
        bars[f"{way}: a trained skill rises on fresh items, interval above zero"] = bar(
            best, 0.0, best > 0
        )
        if "nodes_with_experiments" in said:
            nodes = said["nodes_with_experiments"]
            bars[f"{way}: nodes that ran experiments"] = bar(nodes, 2, nodes == 2)
    return bars


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="one tiny round by RAY_ADDRESS")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=("nodes", "job"), help="one of the two ways")
    given = parser.parse_args()
    ways = [given.only] if given.only else ["nodes"] if given.quick else ["nodes", "job"]
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        settings = yaml.safe_load(QUICK if given.quick else _default())
        (work / "config.yaml").write_text(yaml.safe_dump(settings | {"rounds": 1}), "utf-8")
        for way in ways:
            # A job has the head alone: nodes of one machine share a folder for working folders, and
            # one clears away what the other still runs in.
            with a_cluster(1 if way == "job" else 2) as (address, dashboard):
                where = dashboard if way == "job" else address
                perform = as_job if way == "job" else by_address
                figures[way] = perform(where, work / way, work / "config.yaml")
    bars = {} if given.quick else bars_of(figures)
    whole = not given.quick and given.only is None
    return finish("cluster", {"seed": 0, "figures": figures, "bars": bars}, given.json, whole)


def _default() -> str:
    return (ROOT / "configs/default.yaml").read_text("utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
