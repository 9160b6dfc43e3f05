"""The crew on real Ray: at most `workers` at once, nothing lost when a worker, a node or a model
goes away, and everything visible by name.

One local Ray serves all tests but the last ones, which join a two-node cluster of their own. The
model is a scripted server on loopback (tests/scripted_endpoint.py), the worlds are the real ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.authentication.authentication_token_setup import (
    enable_token_auth_by_default,
    ensure_token_if_auth_enabled,
)
from ray.job_submission import JobSubmissionClient
from ray.util.state import list_actors

from agents import metrics
from agents.cluster import ROOT, ClusterInfo, connect, disconnect, free_port
from agents.crew import GRACE_S, Event, run_experiments
from agents.desk import Desk, EndpointAddress
from regent.config import Caps, ExperimentConfig, RayConfig
from regent.errors import CannotRun
from regent.records import ExperimentPlan, TaskRef, Trajectory
from tests.scripted_endpoint import scripted_endpoint


def plan(seed: int, tasks: int = 6) -> ExperimentPlan:
    refs = tuple(
        TaskRef(environment="reasoning", skill="chain_sum", level=0, seed=seed * 100 + i)
        for i in range(tasks)
    )
    return ExperimentPlan(
        round=1,
        gap="gap",
        environment="reasoning",
        skill="chain_sum",
        level=0,
        goal="add",
        strategy="attempt",
        tasks=refs,
        seed=seed,
    )


@dataclass
class Seen:
    """A run of the crew as the live view and the store saw it."""

    events: list[Event] = field(default_factory=list)
    kept: list[tuple[str, int]] = field(default_factory=list)
    trajectories: list[Trajectory] = field(default_factory=list)
    most_at_once: int = 0
    actors: set[str] = field(default_factory=set)
    seconds: float = 0.0

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["event"] == kind]


def run(
    base_url: str,
    model: str,
    plans: list[ExperimentPlan],
    on_progress: Any = None,
    seconds: float = 60.0,
    concurrency: int = 2,
) -> Seen:
    seen, alive = Seen(), set()
    caps = Caps(seconds=seconds)
    config = ExperimentConfig(workers=4, concurrency=concurrency, caps=caps)
    desk = Desk.start("test", caps, "code")
    desk.serve(EndpointAddress(base_url, model, api_key="secret"))

    def on_event(event: Event) -> None:
        seen.events.append(event)
        alive.add(event["worker"]) if event["event"] == "started" else None
        alive.discard(event["worker"]) if event["event"] == "ended" else None
        seen.most_at_once = max(seen.most_at_once, len(alive))
        if event["event"] == "progress" and on_progress:
            on_progress(event, seen, desk)

    begun = time.monotonic()
    try:
        seen.trajectories = run_experiments(
            plans, desk, config, on_event, lambda p, t: seen.kept.append((p.id, len(t)))
        )
    finally:
        seen.seconds = time.monotonic() - begun
        with contextlib.suppress(Exception):
            desk.stop()
    return seen


def alive_actors() -> dict[str, Any]:
    return {
        a.name: a
        for a in list_actors(
            address=ray.get_runtime_context().gcs_address,
            detail=True,
            filters=[("state", "=", "ALIVE")],
        )
        if a.name
    }


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with scripted_endpoint() as url:
        yield url


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterInfo]:
    folder = tmp_path_factory.mktemp("runs") / "local"
    with socket.socket() as squatter:  # somebody else's dashboard
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        taken = squatter.getsockname()[1]
        yield connect(RayConfig(address="local", dashboard_port=taken), folder)
    disconnect()


@pytest.fixture(scope="module")
def watched(local: ClusterInfo, base_url: str) -> Seen:
    """Six experiments on four workers, the actors listed while they work."""

    def look(event: Event, seen: Seen, desk: Desk) -> None:
        if len(seen.actors) < 5:
            seen.actors |= set(alive_actors())

    return run(base_url, "slow-sums", [plan(seed) for seed in range(6)], look)


@pytest.mark.real
def test_four_workers_are_at_work_at_once_and_never_more(watched: Seen) -> None:
    assert watched.most_at_once == 4
    begun = {e["worker"] for e in watched.of("progress") if e["elapsed_s"] is not None}
    assert len(begun) == 6


@pytest.mark.real
def test_the_actors_are_listed_by_what_they_do(watched: Seen) -> None:
    assert "regent-desk-test" in watched.actors
    workers = {name for name in watched.actors if name.startswith("experiment-")}
    assert workers >= {f"experiment-r1-{n:02d}-chain_sum" for n in range(4)}


@pytest.mark.real
def test_every_task_comes_back_once_verified_by_the_world(watched: Seen) -> None:
    assert Counter(t.outcome for t in watched.trajectories) == {"verified": 36}
    assert len({t.task for t in watched.trajectories}) == 36
    assert [t.plan for t in watched.trajectories[::6]] == [plan(seed).id for seed in range(6)]
    assert sorted(watched.kept) == sorted((plan(seed).id, 6) for seed in range(6))
    assert [e["direction"] for e in watched.of("suggestion")] == ["harder"] * 6


@pytest.mark.real
def test_a_scrape_returns_regents_series(local: ClusterInfo, watched: Seen) -> None:
    metrics.add_verdict("approve", "batch")
    metrics.add_station_seconds("train", 2.5)
    metrics.add_examples(3)
    metrics.set_held_out_accuracy("reasoning/chain_sum", 0.5)
    (address,) = local.metrics
    wanted, deadline = set(metrics.SERIES), time.monotonic() + 45
    while wanted and time.monotonic() < deadline:
        with urllib.request.urlopen(address, timeout=10) as answer:
            text = answer.read().decode()
        wanted = {name for name in metrics.SERIES if f"\nray_{name}{{" not in text}
        time.sleep(1 if wanted else 0)
    assert not wanted
    tokens = re.findall(
        r"\nray_regent_tokens_total\{[^}]*station=\"experiment\"[^}]*\} (\S+)", text
    )
    assert sum(map(float, tokens)) == 22 * (36 + 6)


@pytest.mark.real
def test_a_taken_dashboard_port_is_passed_over_and_said(local: ClusterInfo) -> None:
    assert local.started
    assert local.dashboard_url.startswith("http://127.0.0.1:")
    assert any("is in use: the dashboard is on" in note for note in local.notes)
    with urllib.request.urlopen(f"{local.dashboard_url}/api/authentication_mode") as answer:
        assert json.load(answer)["authentication_mode"] in ("token", "disabled")


@pytest.mark.real
def test_a_worker_killed_in_the_middle_goes_on_and_its_experiment_ends_once(
    local: ClusterInfo, base_url: str
) -> None:
    killed: list[int] = []

    def kill(event: Event, seen: Seen, desk: Desk) -> None:
        if not killed and event["done"] >= 2:
            killed.append(alive_actors()[event["worker"]].pid)
            os.kill(killed[0], signal.SIGKILL)

    seen = run(base_url, "slow-sums", [plan(20, tasks=12)], kill)
    assert killed
    assert Counter(t.outcome for t in seen.trajectories) == {"verified": 12}
    assert seen.kept == [(plan(20, tasks=12).id, 12)]
    assert len(seen.of("ended")) == 1


@pytest.mark.real
def test_a_model_that_never_answers_is_capped_in_time(local: ClusterInfo, base_url: str) -> None:
    seen = run(base_url, "hang", [plan(30), plan(31)], seconds=2.0)
    assert Counter((t.outcome, t.detail) for t in seen.trajectories) == {
        ("capped", "cap: seconds"): 12
    }
    assert seen.seconds < 2.0 + GRACE_S + 20.0  # of which starting the workers takes the most


@pytest.mark.real
def test_a_desk_that_dies_ends_the_crew_in_one_line_and_leaves_no_worker(
    local: ClusterInfo, base_url: str
) -> None:
    def kill(event: Event, seen: Seen, desk: Desk) -> None:
        desk.stop()

    with pytest.raises(CannotRun, match="the desk died; `regent resume`"):
        run(base_url, "slow-sums", [plan(40)], kill)
    deadline = time.monotonic() + 20
    while any(n.startswith("experiment-") for n in alive_actors()) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not [name for name in alive_actors() if name.startswith("experiment-")]


@dataclass
class TwoNodes:
    cluster: Any
    second: Any
    dashboard: str


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[TwoNodes]:
    from ray.cluster_utils import Cluster

    disconnect()
    enable_token_auth_by_default()  # as `ray.init` and `ray start` do; `Cluster` alone does not
    ensure_token_if_auth_enabled()
    port = free_port(0)
    # A node whose agent finds its port taken (by default 52365, by any other Ray of this machine)
    # runs on without one, and then no job can ever be submitted: each node asks for a free port.
    node = {"num_cpus": 2, "dashboard_agent_listen_port": 0}
    head = {**node, "include_dashboard": True, "dashboard_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield TwoNodes(cluster, cluster.add_node(**node), f"http://127.0.0.1:{port}")
    finally:
        disconnect()
        cluster.shutdown()


JOB = """
import json, sys
from pathlib import Path
from agents.cluster import connect
from agents.crew import run_experiments
from agents.desk import Desk, EndpointAddress
from regent.config import Caps, ExperimentConfig, RayConfig
from tests.test_cluster import plan

info = connect(RayConfig(), Path("run"))
desk = Desk.start("job", Caps(), "code")
desk.serve(EndpointAddress(sys.argv[1], "sums"))
done = run_experiments([plan(60), plan(61)], desk, ExperimentConfig())
print("RESULT", json.dumps([info.started, *(t.outcome for t in done)]))
"""


def submitted(client: JobSubmissionClient, entrypoint: str) -> str:
    """The job's id. A head whose agent is still starting says 500 after ten seconds: ask again."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return client.submit_job(entrypoint=entrypoint, runtime_env={"working_dir": str(ROOT)})
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(2)


@pytest.mark.real
def test_a_submitted_job_finds_regent_in_its_working_folder(
    two_nodes: TwoNodes, base_url: str
) -> None:
    client = JobSubmissionClient(two_nodes.dashboard)
    job = submitted(client, f"{sys.executable} -c {shlex.quote(JOB)} {base_url}")
    deadline = time.monotonic() + 90
    while not client.get_job_status(job).is_terminal() and time.monotonic() < deadline:
        time.sleep(1)
    logs = client.get_job_logs(job)
    lines = [line for line in logs.splitlines() if line.startswith("RESULT ")]
    assert lines, logs[-2000:]
    assert json.loads(lines[0].removeprefix("RESULT ")) == [False, *["verified"] * 12]


@pytest.mark.real
def test_two_nodes_share_the_crew_and_the_loss_of_one_loses_nothing(
    two_nodes: TwoNodes, base_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the workers must find Regent from anywhere
    info = connect(RayConfig(address=two_nodes.cluster.address), tmp_path / "run")
    assert not info.started
    assert len(info.metrics) == 2
    nodes: set[str] = set()
    lost: list[str] = []

    def lose(event: Event, seen: Seen, desk: Desk) -> None:
        workers = [a for name, a in alive_actors().items() if name.startswith("experiment-")]
        nodes.update(str(a.node_id) for a in workers)
        if not lost and len(nodes) == 2 and event["done"] >= 1:
            lost.append(two_nodes.second.node_id)
            two_nodes.cluster.remove_node(two_nodes.second, allow_graceful=False)

    plans = [plan(50 + n, tasks=12) for n in range(4)]
    seen = run(base_url, "slow-sums", plans, lose, concurrency=1)
    assert lost
    assert lost[0] in nodes
    assert Counter(t.outcome for t in seen.trajectories) == {"verified": 48}
    assert sorted(seen.kept) == sorted((one.id, 12) for one in plans)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:9", "no Ray answers at '127.0.0.1:9'"),
        ("nonsense", "no Ray answers at 'nonsense'"),
        ("ray://127.0.0.1:10001", "give the head's HOST:PORT"),
        ("http://127.0.0.1:8265", "give the head's HOST:PORT"),
    ],
)
def test_an_address_that_leads_nowhere_is_one_line_with_the_mend(
    address: str, says: str, tmp_path: Path
) -> None:
    if ray.is_initialized():
        disconnect()
    with pytest.raises(CannotRun, match=re.escape(says)) as error:
        connect(RayConfig(address=address), tmp_path)
    assert "\n" not in str(error.value)


def test_a_port_that_is_taken_gives_the_next_free_one() -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        taken = squatter.getsockname()[1]
        assert free_port(taken) > taken


def test_without_ray_the_metrics_do_nothing() -> None:
    if ray.is_initialized():
        disconnect()
    metrics.add_tokens("plan", 5)
    metrics.set_held_out_accuracy("reasoning/chain_sum", 0.5)
    assert not ray.is_initialized()
