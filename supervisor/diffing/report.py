"""A diff as JSON fields (the contract of `regent diff --json`) and as a page for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from supervisor.diffing.concerns import Scale
from supervisor.diffing.difference import FEWEST_PROMPTS, Difference, Finding
from supervisor.diffing.hypotheses import Survival
from supervisor.diffing.inside import Inside

_LONGEST, _ON_SCREEN = 2_000, 300  # characters of an example that are kept, and shown
_BLIND_TO = (
    "what shows on no discovery prompt, behaviour behind a trigger that no prompt holds, "
    "truth, and what comes after the sampled tokens"
)
_STYLE = {"same": "bold green", "different": "bold red", "inconclusive": "bold yellow"}


def as_fields(
    found: Difference,
    left: str,
    right: str,
    tokens: int,
    notes: Sequence[str],
    scales: Sequence[Scale] = (),
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
            "of": drift.of.id if drift.of else "contrast",
            "examples": _examples(drift.examples),
        },
        "tolerance": found.tolerance,
        "alpha": found.alpha,
        "behaviours": [_behaviour(finding) for finding in found.behaviours],
        "behaviours_counted": found.counted,
        "concerns": {
            one.concern.name: {
                "auroc": one.auroc,
                "low": one.low,
                "high": one.high,
                "blind": one.blind,
            }
            for one in scales
        },
        "judge": None,
        "inside": None,
        "approvals": None,
        "atlas": [_behaviour(finding) for finding in found.atlas],
        "notes": list(notes),
        "blind_to": _BLIND_TO,
        "tokens": tokens,
        "seed": found.seed,
    }


def judge_fields(found: Survival) -> dict[str, Any]:
    """What a judge proposed and what became of it, as plain JSON; null where not tested."""
    return {
        "name": found.judge,
        "proposals": found.proposals,
        "unparsed": found.unparsed,
        "tokens": found.tokens,
        "hypotheses": [
            {
                "text": one.text,
                "kept": not one.fell,
                "fell": one.fell,
                "n": one.n,
                "missing": one.missing,
                "left_share": known(one.left_share),
                "right_share": known(one.right_share),
                "difference": known(one.difference),
                "adjusted_p": known(one.adjusted_p),
                "gain": known(one.gain[0]),
                "gain_low": known(one.gain[1]),
                "elsewhere": known(one.elsewhere),
            }
            for one in found.hypotheses
        ],
    }


def inside_fields(found: Inside) -> dict[str, Any]:
    """The white-box channel as plain JSON."""
    return {
        "nats": list(found.nats),
        "nats_a_token": list(found.nats_a_token),
        "bound": found.bound,
        "high": found.high,
        "places": [asdict(place) for place in found.places],
        "tokens": [[token, gain] for token, gain in found.tokens],
    }


def show(fields: dict[str, Any]) -> RenderableType:
    """The same for a reader: the verdict first, then what differs, then what cannot be seen."""
    head = Text.assemble(
        (fields["verdict"], _STYLE[fields["verdict"]]), f"  {fields['reason']}", overflow="fold"
    )
    parts: list[RenderableType] = [head]
    if fields["behaviours"]:
        table = Table("behaviour", "left", "right", "difference", "p", "concern", box=None)
        for row in fields["behaviours"][:12]:
            table.add_row(
                row["label"],
                f"{row['left_share']:.0%}",
                f"{row['right_share']:.0%}",
                _interval(row),
                f"{row['adjusted_p']:.3f}",
                _concern(row),
            )
        parts += [Text(""), table]
        first = fields["behaviours"][0]
        parts += _side_by_side(first["label"], first["examples"][:1])
    elif fields["verdict"] != "same":
        parts += _side_by_side("nothing could be named; where the sides part most", _of(fields))
    if fields["atlas"]:
        parts += [Text(""), *_atlas(fields["atlas"])]
    if fields["inside"] is not None:
        parts += [Text(""), *_inside(fields["inside"])]
    if fields["judge"] is not None:
        parts += [Text(""), *_judged(fields["judge"])]
    if fields["approvals"] is not None:
        parts += [Text(""), *_approvals(fields["approvals"])]
    parts += [Text("")]
    parts += [Text(note, style="yellow") for note in fields["notes"]]
    blind = [name for name, said in fields["concerns"].items() if said["blind"]]
    if blind:
        parts.append(
            Text(f"Concerns too weak here to weigh anything: {', '.join(blind)}.", style="dim")
        )
    parts.append(Text(f"Not seen: {fields['blind_to']}.", style="dim"))
    return Group(*parts)


def _reason(found: Difference) -> str:
    least = 1 / (found.equality.permutations + 1)  # no smaller p can come of so many exchanges
    sign = "≤" if found.equality.p_value <= least else "="
    p = f"equality p {sign} {found.equality.p_value:.3g} on {found.n_prompts} prompts"
    if found.n_discovery:
        p += f", shares on {found.n_prompts - found.n_discovery} of them"
    drift, tolerance = found.drift, f"{found.tolerance:.2f}"
    if drift.blind:
        return (
            f"too few prompts: behaviours are found on {FEWEST_PROMPTS} or more and counted on as "
            f"many others; {p}"
        )
    interval = f"{drift.estimate:.2f} [{drift.low:.2f}, {drift.high:.2f}]"
    who = f"the shift of “{drift.of.label}”" if drift.of else "the drift"
    said = {
        "same": f"every shift is surely within the tolerance {tolerance}",
        "different": f"{who} is surely beyond the tolerance {tolerance}",
        "inconclusive": f"the drift is neither surely within nor beyond the tolerance {tolerance}",
    }[found.verdict]
    return f"{said}: drift {interval}; {p}{_beyond(found)}"


def _beyond(found: Difference) -> str:
    """A reported behaviour whose own interval lies beyond the tolerance where the drift's does not:
    as one of many it does not decide, and is not to be overlooked.
    """
    if found.verdict != "inconclusive":
        return ""
    for finding in found.behaviours:
        shift = finding.shift
        if max(shift.low, -shift.high) > found.tolerance:
            own = f"{shift.difference:+.2f} [{shift.low:+.2f}, {shift.high:+.2f}]"
            return f". But “{shift.behaviour.label}” by itself shifts by {own}, beyond it"
    return ""


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
        "concern": finding.weight.concern,
        "concern_score": finding.weight.score,
        "surprise": finding.surprise,
        "terms": list(shift.behaviour.terms),
        "examples": _examples(shift.examples),
    }


def _approvals(fields: dict[str, Any]) -> list[Text]:
    """Only gaps whose interval excludes zero, and how steady the answers were."""
    left, right = (_share(value) for value in fields["steady"])
    lines = [
        Text(
            f"approvals of {fields['n']} statements; answered alike in both orders: "
            f"{left} and {right} (chance 50%)",
            style="bold",
        )
    ]
    if any(fields["missing"]):
        lines.append(Text("  answered with neither word: {} and {}".format(*fields["missing"])))
    lines += [Text(f"  {side}: {_gap(gap)}") for side, gap in sure_gaps(fields)]
    for one in fields["personas"]:
        left, right = (_share(value) for value in one["moved"])
        lines.append(Text(f"  as {one['persona'][:40]}…: moved by {left} and {right}"))
        lines += [Text(f"    right − left: {_gap(gap)}") for gap in one["between"] if _sure(gap)]
    return lines


def sure_gaps(fields: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The approvals' gaps whose interval excludes zero, each with whose it is."""
    named = [
        ("right − left", fields["between"]),
        *zip(("left", "right"), fields["within"], strict=True),
    ]
    return [(side, gap) for side, gaps in named for gap in gaps if _sure(gap)]


def _sure(gap: dict[str, Any]) -> bool:
    return bool(gap["low"] > 0 or gap["high"] < 0)


def _gap(gap: dict[str, Any]) -> str:
    return f"{gap['name']} {_interval(gap)}"


def _interval(row: dict[str, Any]) -> str:
    return f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"


def _concern(row: dict[str, Any]) -> str:
    if not row["concern"]:
        return ""
    weight = f"{row['concern_score']:.2f}" if row["concern_score"] else "(blind)"
    return f"{row['concern']} {weight}"


def _share(value: float | None) -> str:
    return "?" if value is None else f"{value:.0%}"


def _atlas(rows: Sequence[dict[str, Any]]) -> list[Text]:
    """Every region of the lineage's atlas, so that two diffs can be read side by side."""
    return [
        Text("the lineage's atlas: left, right, difference", style="bold"),
        *(
            Text(
                f"  {row['id']}  {row['left_share']:4.0%} {row['right_share']:4.0%}  "
                f"{_interval(row)}  {row['label']}"
            )
            for row in rows
        ),
    ]


def _inside(told: dict[str, Any]) -> list[Text]:
    risen = ", ".join(repr(token) for token, _ in told["tokens"][:6])
    return [
        Text(
            f"inside: no behaviour's share shifts by more than {told['bound']:.2f} "
            f"(upper 95 % limit {told['high']:.2f})",
            style="bold",
        ),
        Text(f"  {told['nats_a_token'][0]:.3f} nats a token; the right side raises {risen}"),
    ]


def _judged(judge: dict[str, Any]) -> list[Text]:
    """The survivors, then what fell and why."""
    rows = judge["hypotheses"]
    kept = sum(row["kept"] for row in rows)
    lines = [Text(f"{kept} of {len(rows)} statements of the judge survived", style="bold")]
    if judge["unparsed"]:
        lines.append(Text(f"  {judge['unparsed']} of {judge['proposals']} replies did not parse"))
    for row in rows:
        if row["kept"]:
            said = f"{row['left_share']:.0%} → {row['right_share']:.0%}"
            lines.append(Text(f"  {row['text']} {said}, p = {row['adjusted_p']:.3f}"))
        else:
            lines.append(Text(f"  fell: {row['text']} ({row['fell']})", style="dim"))
    return lines


def known(value: float) -> float | None:
    """As JSON has it: null where it is not a finite number."""
    return value if math.isfinite(value) else None


def _of(fields: dict[str, Any]) -> list[list[str]]:
    """The drift's own examples, where equality says that there is something to see."""
    examples: list[list[str]] = fields["drift"]["examples"]
    return examples if fields["p_value"] <= fields["alpha"] else []


def _side_by_side(label: str, examples: Sequence[Sequence[str]]) -> list[Text]:
    lines = []
    for ours, theirs in examples:
        lines += [
            Text(""),
            Text(f"{label}, side by side:", style="bold"),
            Text(f"  left   {_flat(ours)}"),
            Text(f"  right  {_flat(theirs)}"),
        ]
    return lines


def _examples(pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    return [[_cut(a, _LONGEST), _cut(b, _LONGEST)] for a, b in pairs]


def _cut(text: str, most: int) -> str:
    """Beginning and end of a text that is longer: what is shown may stand at either."""
    return text if len(text) <= most else f"{text[: most * 3 // 5]} […] {text[-most * 2 // 5 :]}"


def _flat(text: str) -> str:
    return _cut(" ".join(text.split()), _ON_SCREEN)
