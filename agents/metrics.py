"""Regent's own series on Ray's metrics endpoint (`ray_regent_…` once Ray has prefixed them).

The one module that names them. Counters are cumulative over the processes that count: the desk
counts the tokens of experiments as they are spent, the driver all the rest. Where Ray is not up
every call does nothing, so the loop and the tests need not ask first.

Does not cover: the ledger and MLflow, which are the record; these series are for watching.
"""

from __future__ import annotations

import threading

import ray
from ray.util.metrics import Counter, Gauge, Metric

#: name: (kind, description, tag keys)
SERIES: dict[str, tuple[type[Metric], str, tuple[str, ...]]] = {
    "regent_experiments_total": (Counter, "Experiments ended, by outcome", ("outcome",)),
    "regent_tokens_total": (Counter, "Tokens read and written by models", ("station",)),
    "regent_examples_total": (Counter, "Training examples assembled", ()),
    "regent_verdicts_total": (
        Counter,
        "Verdicts of the supervisor",
        ("decision", "subject_kind"),
    ),
    "regent_station_seconds_total": (Counter, "Wall-clock spent in a station", ("station",)),
    "regent_held_out_accuracy": (Gauge, "Champion's accuracy on fresh held-out items", ("skill",)),
}
# One live instance a name and Ray session: Ray complains of a second one.
_live: dict[tuple[str, str], Metric] = {}
# Ray forgets a gauge that nobody has set for some twenty seconds; a round takes minutes.
_standing: dict[str, float] = {}
REFRESH_S = 5.0


def add_experiments(n: int = 1, outcome: str = "completed") -> None:
    """Count experiments that ended: `completed`, `capped` or `failed`."""
    _add("regent_experiments_total", n, {"outcome": outcome})


def add_tokens(station: str, n: int) -> None:
    """Count tokens (prompt and completion). `experiment` is the desk's to count."""
    _add("regent_tokens_total", n, {"station": station})


def add_examples(n: int) -> None:
    """Count examples that entered a batch."""
    _add("regent_examples_total", n, {})


def add_verdict(decision: str, subject_kind: str) -> None:
    """Count one verdict."""
    _add("regent_verdicts_total", 1, {"decision": decision, "subject_kind": subject_kind})


def add_station_seconds(station: str, seconds: float) -> None:
    """Add wall-clock seconds to a station."""
    _add("regent_station_seconds_total", seconds, {"station": station})


def set_held_out_accuracy(skill: str, accuracy: float) -> None:
    """The champion's accuracy in [0, 1] on one skill (`environment/skill`)."""
    if not ray.is_initialized():
        return
    first = not _standing
    _standing[skill] = accuracy
    _show_standing()
    if first:
        threading.Thread(target=_refresh, name="regent-gauges", daemon=True).start()


def _show_standing() -> None:
    series = _series("regent_held_out_accuracy")
    if isinstance(series, Gauge):
        for skill, accuracy in list(_standing.items()):
            series.set(accuracy, {"skill": skill})


def _refresh() -> None:
    """Keep the last accuracies in sight until Ray goes."""
    pause = threading.Event()
    while ray.is_initialized():
        _show_standing()
        pause.wait(REFRESH_S)
    _standing.clear()


def _add(name: str, amount: float, tags: dict[str, str]) -> None:
    if amount <= 0:
        return
    series = _series(name)
    if isinstance(series, Counter):
        series.inc(amount, tags)


def _series(name: str) -> Metric | None:
    if not ray.is_initialized():
        return None
    key = (ray.get_runtime_context().get_job_id(), name)
    if key not in _live:
        kind, description, tags = SERIES[name]
        _live[key] = kind(name, description=description, tag_keys=tags)
    return _live[key]
