"""Scores, a set's validation and proposals as JSON fields, and as pages for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from supervisor.reflectivity.frame import SUBTASKS
from supervisor.reflectivity.proposing import Outcome, Source
from supervisor.reflectivity.scoring import MARGIN, Change, Score
from supervisor.reflectivity.validation import FEWEST_FRAMES, Gate, Validation

_HEADS = ("own", "current", "identify", "predict", "desire")  # SUBTASKS, to fit 80 columns


def probe_fields(scores: Sequence[Score], normalised: Sequence[Score]) -> dict[str, Any]:
    """By sub-task; `accuracy_normalised` is by log-probability a token. Unknown is null."""
    return {
        score.subtask: {
            **{name: _known(value) for name, value in asdict(score).items() if name != "subtask"},
            "accuracy_normalised": _known(other.accuracy),
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


def proposal_fields(source: Source, outcomes: Sequence[Outcome], out: Path) -> dict[str, Any]:
    """Who wrote and who read; each proposal, where it lies if it was taken, what was refused."""
    told = [
        {
            "number": one.number,
            "name": one.name,
            "taken": one.frame is not None,
            "file": str(out / f"{one.name}.yaml") if one.frame else None,
            "cells": list(one.frame.proposed.cells) if one.frame and one.frame.proposed else [],
            "refused": list(one.refused),
            "asked_again": list(one.again),
            "gates": [{**asdict(gate), "holds": gate.holds} for gate in one.gates],
        }
        for one in outcomes
    ]
    return {
        "model": source.model,
        "reader": source.read_by,
        "reader_is_the_model": source.alone,
        "seed": source.seed,
        "taken": sum(one.frame is not None for one in outcomes),
        "proposals": told,
        "tokens": source.tokens,
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


def show_proposals(fields: dict[str, Any]) -> RenderableType:
    """What was taken and what was refused, each refusal with its figure; then what nobody saw."""
    parts: list[RenderableType] = [
        Text(f"{fields['taken']} of {len(fields['proposals'])} proposals taken", style="bold")
    ]
    for row in fields["proposals"]:
        parts.append(Text(f"{row['number']}. {row['name'] or '(no name)'}"))
        parts += [Text(f"   refused: {line}", style="red") for line in row["refused"]]
        if row["asked_again"]:
            parts.append(Text(f"   asked again {len(row['asked_again'])} times", style="dim"))
        if row["taken"]:
            cells = ", ".join(row["cells"])
            parts.append(Text(f"   taken: {row['file']} ({cells})", style="green"))
    if fields["reader_is_the_model"]:
        parts.append(
            Text(
                "The reader is the model that wrote: what it gets wrong, it may read as it wrote "
                "it. Name another with --reader.",
                style="yellow",
            )
        )
    parts.append(
        Text("A person reads each before it is used: a reader model is no person.", style="dim")
    )
    return Group(*parts)


def _figure(gate: Gate) -> Text:
    if gate.blind:
        return Text(f"({gate.figure:.3g})", style="dim")
    return Text(f"{gate.figure:.3g}", style="green" if gate.holds else "bold red")


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _percent(value: float | None) -> str:
    return "?" if value is None else f"{value:.0%}"
