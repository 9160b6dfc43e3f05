"""The loop, station by station.

    profile → plan → experiment → assemble → judge_batch → train → judge_checkpoint → promote

A LangGraph `StateGraph` with a durable checkpointer, one thread a run. Its state holds ids and
digests only; records live in the store and the ledger. A finished node can run again after a
crash (LangGraph gives no guarantee against it), so every station is idempotent: it looks in the
ledger for what it would make before it makes it.

Does not cover: what a station does (`agents.stations`) and how a run begins (`agents.run`).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Literal, TypedDict

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from agents.stations import Stations

_THREAD = {"configurable": {"thread_id": "run"}}
_NODES_A_ROUND = 10


class LoopState(TypedDict, total=False):
    """What is carried from station to station: ids and digests, never records."""

    round: int
    champion: str
    origin: str
    profile: str
    answers: str
    gaps: list[str]
    plans: list[str]
    batch: str
    batch_verdict: str
    released: str
    candidate: str
    checkpoint_verdict: str


Next = Literal["plan", "train", "await_batch", "await_checkpoint", "promote"]


class Waiting(Exception):
    """The run waits for a person; the message says for what."""


def build(stations: Stations) -> StateGraph[LoopState]:
    """The graph over `stations`, not yet bound to a checkpointer."""
    graph: StateGraph[LoopState] = StateGraph(LoopState)
    for name in (
        "profile",
        "plan",
        "experiment",
        "assemble",
        "judge_batch",
        "train",
        "judge_checkpoint",
        "promote",
    ):
        work: Any = stations.station(name)  # LangGraph's protocols want an argument named `state`
        graph.add_node(name, work)
    graph.add_node("await_batch", _await_review(stations, "batch"))
    graph.add_node("await_checkpoint", _await_review(stations, "checkpoint"))
    graph.add_edge(START, "profile")
    graph.add_conditional_edges(
        "profile", lambda s: "plan" if s.get("gaps") else "promote", ["plan", "promote"]
    )
    graph.add_conditional_edges(
        "plan", lambda s: "experiment" if s.get("plans") else "promote", ["experiment", "promote"]
    )
    graph.add_edge("experiment", "assemble")
    graph.add_conditional_edges(
        "assemble",
        lambda s: "judge_batch" if s.get("batch") else "promote",
        ["judge_batch", "promote"],
    )
    graph.add_conditional_edges(
        "judge_batch", _after_batch(stations), ["train", "await_batch", "promote"]
    )
    graph.add_conditional_edges(
        "await_batch", lambda s: "train" if s.get("released") else "promote", ["train", "promote"]
    )
    graph.add_edge("train", "judge_checkpoint")
    graph.add_conditional_edges(
        "judge_checkpoint", _after_checkpoint(stations), ["promote", "await_checkpoint"]
    )
    graph.add_edge("await_checkpoint", "promote")
    rounds = stations.config.rounds
    graph.add_conditional_edges(
        "promote", lambda s: "profile" if s["round"] <= rounds else END, ["profile", END]
    )
    return graph


def drive(stations: Stations, folder: Path, start: LoopState | None) -> None:
    """Run the loop from `start`, or with None from where the last process left it.

    Raises Waiting where a quarantine waits for a person and the configuration says to wait.
    """
    connection = sqlite3.connect(folder / "graph.sqlite", check_same_thread=False)
    try:
        saver = SqliteSaver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=[]))
        graph = build(stations).compile(checkpointer=saver)
        limits: Any = {**_THREAD, "recursion_limit": 50 + _NODES_A_ROUND * stations.config.rounds}
        if start is not None and graph.get_state(limits).next:
            start = None  # a run that was cut off goes on; it never begins twice
        result = graph.invoke(start, limits, durability="sync")
        if isinstance(result, dict) and result.get("__interrupt__"):
            raise Waiting(str(result["__interrupt__"][0].value))
    finally:
        connection.close()


def begun(folder: Path) -> bool:
    """Whether the graph of this run has a checkpoint to go on from."""
    path = folder / "graph.sqlite"
    if not path.exists():
        return False
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        saver = SqliteSaver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=[]))
        return saver.get_tuple(_config()) is not None
    finally:
        connection.close()


def _config() -> Any:
    return {"configurable": {"thread_id": "run", "checkpoint_ns": ""}}


def _after_batch(stations: Stations) -> Any:
    def choose(state: LoopState) -> str:
        if state.get("released"):
            return "train"
        return "await_batch" if stations.waits_for(state.get("batch_verdict", "")) else "promote"

    return choose


def _after_checkpoint(stations: Stations) -> Any:
    def choose(state: LoopState) -> str:
        return (
            "await_checkpoint"
            if stations.waits_for(state.get("checkpoint_verdict", ""))
            else "promote"
        )

    return choose


def _await_review(stations: Stations, kind: Literal["batch", "checkpoint"]) -> Any:
    """One interrupt a node; on resume the node runs again from its top and asks the ledger."""

    def wait(state: LoopState) -> dict[str, Any]:
        verdict = (
            state.get("batch_verdict", "")
            if kind == "batch"
            else state.get("checkpoint_verdict", "")
        )
        if not stations.reviewed(verdict):
            interrupt(
                f"round {state['round']}: the {kind} is quarantined; "
                f"`regent review {stations.folder} list`, release or reject it, "
                f"then `regent resume {stations.folder}`"
            )
        return stations.after_review(kind, state)

    return wait
