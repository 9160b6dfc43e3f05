"""Probing scores and a set's validation as JSON fields, and as pages for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from supervisor.reflectivity.frame import SUBTASKS
from supervisor.reflectivity.scoring import MARGIN, Change, Score
from supervisor.reflectivity.validation import FEWEST_FRAMES, Gate, Validation

_HEADS = ("own", "current", "identify", "predict", "desire")  # SUBTASKS, to fit 80 columns


def probe_fields(scores: Sequence[Score], normalised: Sequence[Score]) -> dict[str, Any]:
    """By sub-task; `accuracy_normalised` is by log-probability a token. Unknown is null."""
    return {
        score.subtask: {
            **{name: known(value) for name, value in asdict(score).items() if name != "subtask"},
            "accuracy_normalised": known(other.accuracy),
        }
        for score, other in zip(scores, normalised, strict=True)
    }


def change_fields(changes: Sequence[Change]) -> dict[str, Any]:
    """By sub-task: the paired difference with its interval, the exact McNemar p, and the word."""
    return {
        change.subtask: {
            **{name: value for name, value in asdict(change).items() if name != "subtask"},
            "says": change.word,
            "margin": MARGIN,
        }
        for change in changes
    }


def validation_fields(found: Validation) -> dict[str, Any]:
    return {
        "holds": found.holds,
        "frames": found.frames,
        "items": found.items,
        "faults": list(found.faults),
        "gates": [
            {**asdict(gate), "holds": gate.holds, "bar_is": "at most" if gate.most else "at least"}
            for gate in found.gates
        ],
    }


def show_probe(fields: dict[str, Any]) -> RenderableType:
    """Scores of each model, blindness in words, then what changed."""
    parts: list[RenderableType] = []
    for model in fields["models"]:
        table = Table("sub-task", "accuracy", "95 %", "consistent quads", "Brier", "n", box=None)
        for name, row in model["subtasks"].items():
            table.add_row(
                name,
                _percent(row["accuracy"]),
                f"{row['low']:.0%} to {row['high']:.0%}" + ("  blind" if row["blind"] else ""),
                _percent(row["consistency"]),
                "?" if row["brier"] is None else f"{row['brier']:.3f}",
                f"{row['n']}" + (f" ({row['missing']} missing)" if row["missing"] else ""),
            )
        parts += [Text(model["name"], style="bold"), table, Text("")]
        blind = [name for name, row in model["subtasks"].items() if row["blind"]]
        if blind:
            parts.append(
                Text(
                    f"Blind on {len(blind)} of {len(model['subtasks'])}: chance (50%) lies within "
                    "the interval, so this model cannot testify there.",
                    style="yellow",
                )
            )
    if fields["changes"]:
        table = Table("sub-task", "change", "95 %", "McNemar p", "Holm", "", box=None)
        for name, row in fields["changes"].items():
            table.add_row(
                name,
                f"{row['difference']:+.0%}",
                f"{row['low']:+.0%} to {row['high']:+.0%}",
                f"{row['p_value']:.3g}",
                f"{row['adjusted_p']:.3g}",
                row["says"],
            )
        parts += [
            Text("second model against the first", style="bold"),
            table,
            Text(f"stable: surely within {MARGIN:.0%} either way.", style="dim"),
        ]
    return Group(*parts)


def show_validation(found: Validation) -> RenderableType:
    """Every gate with its figure by sub-task and its bar, what fails in red; then the faults."""
    table = Table("gate", "bar", *_HEADS, box=None)
    table.columns[0].no_wrap = True
    for name in dict.fromkeys(gate.name for gate in found.gates):
        own = {gate.subtask: gate for gate in found.gates if gate.name == name}
        one = next(iter(own.values()))
        bar = f"{'≤' if one.most else '≥'} {one.bar:g}"
        columns = ("all",) if "all" in own else SUBTASKS
        table.add_row(name, bar, *(_figure(own[c]) if c in own else "" for c in columns))
    failed = dict.fromkeys(gate.name for gate in found.gates if not gate.holds)
    blind = any(gate.blind for gate in found.gates)
    return Group(
        Text(
            f"{found.frames} frames, {found.items} items: "
            + (f"what fails: {', '.join(failed)}" if failed else "every gate that can tell holds"),
            style="bold",
        ),
        table,
        *(
            [Text(f"( ) too few frames to tell, under {FEWEST_FRAMES}", style="dim")]
            if blind
            else []
        ),
        *(Text(fault, style="red") for fault in found.faults),
        Text(
            "No gate reads the prose: that a text means the facts noted beside it, and that its "
            "details change nothing, is for you to read.",
            style="dim",
        ),
    )


def _figure(gate: Gate) -> Text:
    if gate.blind:
        return Text(f"({gate.figure:.3g})", style="dim")
    return Text(f"{gate.figure:.3g}", style="green" if gate.holds else "bold red")


def known(value: Any) -> Any:
    """`value`, or None where it is no finite number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _percent(value: float | None) -> str:
    return "?" if value is None else f"{value:.0%}"
