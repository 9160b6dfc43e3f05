"""Scores, propensity, validation and proposals: JSON fields, and pages for the terminal."""

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
from supervisor.reflectivity.propensity import Propensity
from supervisor.reflectivity.proposing import Outcome, Source
from supervisor.reflectivity.scoring import MARGIN, Change, Score
from supervisor.reflectivity.validation import FEWEST_FRAMES, Gate, Validation

_AGREEMENTS = {
    "itself": "choice as it predicted",
    "wordings": "one choice in all 3 wordings",
    "pairs": "one choice in 2 wordings",
    "orders": "one choice in both orders",
}
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


def propensity_fields(found: Propensity) -> dict[str, Any]:
    """Each share and each comparison with its interval; `says`: what they come to in a word."""
    fields = asdict(found)
    for name in _AGREEMENTS:
        fields[name] = {key: known(value) for key, value in fields[name].items()}
    for name, one in (("mode", found.mode), ("other", found.other)):
        if one is not None:
            told = {key: known(value) for key, value in asdict(one).items()}
            fields[name] = {**told, "says": one.word}
    return {**fields, "blind": found.word == "blind", "says": found.word}


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


def show_propensity(fields: dict[str, Any]) -> RenderableType:
    """Of each model: what agrees, what its own prediction is held against, how it leans."""
    parts: list[RenderableType] = []
    for model in fields["models"]:
        table = Table("", "share", "95 %", "by chance", "n", box=None)
        for name, label in _AGREEMENTS.items():
            row = model[name]
            interval = f"{row['low']:.0%} to {row['high']:.0%}"
            shares = (_percent(row["share"]), interval, _percent(row["chance"]))
            table.add_row(label, *shares, str(row["n"]))
        against = Table(
            "predicts itself, over", "it has", "more by", "95 %", "p", "Holm", "", box=None
        )
        names = {"mode": f"its mode (by {model['mode_by']})", "other": "the other model"}
        for name, label in names.items():
            if (row := model[name]) is not None:
                against.add_row(
                    label,
                    _percent(row["baseline"]),
                    "?" if row["difference"] is None else f"{row['difference']:+.0%}",
                    f"{row['low']:+.0%} to {row['high']:+.0%}",
                    f"{row['p_value']:.3g}",
                    f"{row['adjusted_p']:.3g}",
                    row["says"],
                )
        leanings = Table("chooses", "over", "does", "says it would", "n", box=None)
        for row in model["leanings"]:
            chosen, predicted = _percent(row["chosen"]), _percent(row["predicted"])
            leanings.add_row(row["kind"], row["over"], chosen, predicted, str(row["n"]))
        says = model["says"] + (f" ({model['missing']} missing)" if model["missing"] else "")
        parts += [Text(f"{model['name']}: {says}", style="bold"), table, Text("")]
        if model["blind"]:
            parts.append(
                Text(
                    "Blind to itself: always guessing its mode may predict it as well, so what it "
                    "says of its own values is no evidence of them.",
                    style="yellow",
                )
            )
        parts += [against, Text(""), leanings, Text("")]
    parts.append(
        Text(
            "By chance: independent answers with the same shares by kind; a coin has 50%, and 25% "
            "on three wordings.",
            style="dim",
        )
    )
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


def known(value: Any) -> Any:
    """`value`, or None where it is no finite number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _percent(value: float | None) -> str:
    return "?" if value is None else f"{value:.0%}"
