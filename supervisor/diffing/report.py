"""A diff as JSON fields (the contract of `regent diff --json`) and as a page for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from supervisor.diffing.difference import Difference, Finding

_LONGEST = 300  # characters of an example that are shown
_BLIND_TO = (
    "what shows on no discovery prompt, behaviour behind a trigger that no prompt holds, "
    "truth, and what comes after the sampled tokens"
)
_STYLE = {"same": "bold green", "different": "bold red", "inconclusive": "bold yellow"}


def as_fields(
    found: Difference, left: str, right: str, tokens: int, notes: Sequence[str]
) -> dict[str, Any]:
    """The diff as plain JSON. Shares, differences and drift lie in [0, 1] and [-1, 1]."""
    drift = found.drift
    return {
        "verdict": found.verdict,
        "reason": _reason(found),
        "left": left,
        "right": right,
        "p_value": found.equality.p_value,
        "p_by_view": found.equality.by_view,
        "n_prompts": found.n_prompts,
        "n_discovery": found.n_discovery,
        "n_responses": found.n_responses,
        "drift": {
            "estimate": drift.estimate,
            "low": drift.low,
            "high": drift.high,
            "blind": drift.blind,
        },
        "tolerance": found.tolerance,
        "alpha": found.alpha,
        "behaviours": [_behaviour(finding) for finding in found.behaviours],
        "behaviours_counted": found.counted,
        "notes": list(notes),
        "blind_to": _BLIND_TO,
        "tokens": tokens,
        "seed": found.seed,
    }


def show(fields: dict[str, Any]) -> RenderableType:
    """The same for a reader: the verdict first, then what differs, then what cannot be seen."""
    head = Text.assemble(
        (fields["verdict"], _STYLE[fields["verdict"]]), f"  {fields['reason']}", overflow="fold"
    )
    parts: list[RenderableType] = [head]
    if fields["behaviours"]:
        table = Table("behaviour", "left", "right", "difference", "adjusted p", box=None)
        for row in fields["behaviours"][:12]:
            table.add_row(
                row["label"],
                f"{row['left_share']:.0%}",
                f"{row['right_share']:.0%}",
                f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]",
                f"{row['adjusted_p']:.3f}",
            )
        parts += [Text(""), table]
        first = fields["behaviours"][0]
        for ours, theirs in first["examples"][:1]:
            parts += [
                Text(""),
                Text(f"{first['label']}, side by side:", style="bold"),
                Text(f"  left   {_flat(ours)}"),
                Text(f"  right  {_flat(theirs)}"),
            ]
    parts += [Text("")]
    parts += [Text(note, style="yellow") for note in fields["notes"]]
    parts.append(Text(f"Not seen: {fields['blind_to']}.", style="dim"))
    return Group(*parts)


def _reason(found: Difference) -> str:
    p = f"equality p = {found.equality.p_value:.3g} on {found.n_prompts} prompts"
    drift, tolerance = found.drift, f"{found.tolerance:.2f}"
    if drift.blind:
        return f"too few prompts to find behaviours on and to count them; {p}"
    interval = f"{drift.estimate:.2f} [{drift.low:.2f}, {drift.high:.2f}]"
    said = {
        "same": f"every shift is surely within the tolerance {tolerance}",
        "different": f"the drift is surely beyond the tolerance {tolerance}",
        "inconclusive": f"the drift is neither surely within nor beyond the tolerance {tolerance}",
    }[found.verdict]
    return f"{said}: drift {interval}; {p}"


def _behaviour(finding: Finding) -> dict[str, Any]:
    shift = finding.shift
    return {
        "id": shift.behaviour.id,
        "label": shift.behaviour.label,
        "kind": shift.behaviour.kind,
        "left_share": shift.left_share,
        "right_share": shift.right_share,
        "difference": shift.difference,
        "low": shift.low,
        "high": shift.high,
        "adjusted_p": finding.adjusted_p,
        "concern": None,
        "terms": list(shift.behaviour.terms),
        "examples": [[a[:_LONGEST], b[:_LONGEST]] for a, b in shift.examples],
    }


def _flat(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]
