"""Writes the tables in README and docs/ from benchmarks/results/ and the shipped settings.

    python -m benchmarks.tables [--check]

A table stands between `<!-- table:NAME -->` and `<!-- /table -->`; what lies between is replaced.
`--check` writes nothing and exits 1 naming the files that disagree. A table whose results are
missing says which command makes them. Does not cover: figures in prose.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.crowd_table import crowd_table
from benchmarks.report import RESULTS
from regent.config import InstrumentChoice, Policy
from supervisor.budget import share
from supervisor.capability import CapabilitySettings
from supervisor.diffing.instrument import DiffSettings
from supervisor.finding import BUILT_IN, find
from supervisor.reflectivity.frame import SUBTASKS
from supervisor.reflectivity.items import shipped
from supervisor.screens.instrument import ScreenSettings

ROOT = Path(__file__).resolve().parent.parent
_MARKED = re.compile(r"(<!-- table:([a-z-]+) -->\n)(.*?)(<!-- /table -->)", re.DOTALL)
_LEFT_SHARE, _CORRELATION = 0.3, 0.3  # of the drift table in the docs; the file has the others


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def policy_table() -> str:
    """What the shipped policy asks for, from the settings themselves."""
    chosen = {c.name: c.settings for c in (*Policy().batch, *Policy().checkpoint)}
    screens = ScreenSettings.model_validate(chosen["screens"]).model_dump()
    diff = DiffSettings.model_validate(chosen["diff"]).model_dump()
    skills = CapabilitySettings.model_validate(chosen["capability"]).model_dump()
    of = "required; beyond it, veto"
    prompts = f"{diff['gate_prompts']} prompts a stratum, {diff['gate_samples']} samples a prompt"
    fall = "a fall of at most {:.2f}"
    rows = [
        *(
            [
                "batch",
                f"`screens/{name}`",
                f"a share of at most {screens[name]:.2f}",
                of,
                "all rows",
            ]
            for name in (
                "malformed",
                "duplicates",
                "near_duplicates",
                "overlap",
                "refuted",
                "phrases",
            )
        ),
        *(
            [
                "successor",
                f"`diff/drift/{stratum}`",
                f"a drift of at most {diff['drift_tolerance']:.2f}",
                "required",
                prompts,
            ]
            for stratum in ("character", "general")
        ),
        [
            "successor",
            "`diff/STRATUM/BEHAVIOUR`",
            f"a shift of at most {diff['behaviour_tolerance']:.2f}",
            "veto only",
            "the same answers",
        ],
        [
            "successor",
            "`capability/off_target`",
            fall.format(skills["margin"]),
            "required",
            f"{skills['items']} items over all skills not trained on",
        ],
        [
            "successor",
            "`capability/skill/NAME`",
            fall.format(skills["skill_margin"]),
            "veto only",
            "its part of those items",
        ],
        [
            "successor",
            "`capability/on_target`",
            fall.format(skills["margin"]),
            "veto only",
            f"{skills['target_items']} items over the trained skills",
        ],
    ]
    return markdown(["judged", "measurement", "tolerance", "role", "on how much"], rows)


def instruments_table() -> str:
    """What each built-in instrument sees and does not see, in its own words."""
    found = [find(InstrumentChoice(name=name)) for name in BUILT_IN]
    rows = [[f"`{one.name}`", one.sees, one.does_not_see] for one in found]
    return markdown(["instrument", "sees", "does not see"], rows)


def thirty_items() -> str:
    """Six development items a sub-task, drawn once at random, to be read aloud."""
    rng = np.random.default_rng(30)
    parts = []
    for subtask in SUBTASKS:
        own = [i for i in shipped() if i.subtask == subtask and i.split == "dev"]
        frames = sorted({item.frame for item in own})
        parts.append(f"#### {subtask}\n\n")
        for place in rng.permutation(len(frames))[:6]:
            of = [item for item in own if item.frame == frames[place]]
            item = of[int(rng.integers(len(of)))]
            text = "\n>\n".join("> " + part for part in item.context.split("\n\n"))
            one, other = item.options
            parts.append(
                f"{text}\n>\n> *{item.question}*\n> (A) {one} (B) {other}\n\n"
                f"{'AB'[item.gold]} · `{item.id}`\n\n"
            )
    return "".join(parts)


def probing_gates_table(result: Mapping[str, Any]) -> str:
    """Every gate of the shipped sets: the figure of each sub-task, or of all."""
    gates = result["figures"]["gates"]
    rows = []
    for name in dict.fromkeys(gate["name"] for gate in gates):
        own = {gate["subtask"]: gate for gate in gates if gate["name"] == name}
        one = next(iter(own.values()))
        figures = [f"{own[s]['figure']:.3g}" if s in own else "" for s in SUBTASKS]
        if "all" in own:
            figures = [f"{one['figure']:.3g}", "", "", "", ""]
        bound = f"{'≤' if one['most'] else '≥'} {one['bar']:g}"
        rows.append([name, bound, *figures, _yes(all(gate["holds"] for gate in own.values()))])
    return markdown(["gate", "bar", *SUBTASKS, "holds"], rows)


def probed_models_table(result: Mapping[str, Any]) -> str:
    """Accuracy of known models, with 95 % intervals over frames."""
    rows = [
        [
            model,
            *(
                f"{said[s]['accuracy']:.2f} [{said[s]['low']:.2f}, {said[s]['high']:.2f}]"
                + (" blind" if said[s]["blind"] else "")
                for s in SUBTASKS
            ),
        ]
        for model, said in result["figures"]["models"].items()
    ]
    return markdown(["model", *SUBTASKS], rows)


def budget_table() -> str:
    """α of single looks, and the sum so far."""
    alpha = Policy().alpha
    rows = [
        [t, f"{share(alpha, t):.2g}", f"{sum(share(alpha, k) for k in range(1, t + 1)):.4f}"]
        for t in (1, 2, 3, 5, 10, 20, 100)
    ]
    return markdown(["look t", "α_t", "spent up to t"], rows)


def power_drift_table(result: Mapping[str, Any]) -> str:
    """Chance of approval by true drift and look, at one left share and correlation."""
    rows = [
        row
        for row in result["figures"]["drift"]
        if (row["left_share"], row["correlation"]) == (_LEFT_SHARE, _CORRELATION)
    ]
    return _by_look(rows, "drift", "true drift")


def power_capability_table(result: Mapping[str, Any]) -> str:
    """Chance of approval by true change, discordance and look."""
    rows = [
        {**row, "case": f"{row['change']:+.2f}, discordance {row['discordance']:.1f}"}
        for row in result["figures"]["non_inferiority"]
    ]
    return _by_look(rows, "case", "true change of mean accuracy")


def gate_table(result: Mapping[str, Any]) -> str:
    """Successors judged by the shipped policy, by what was planted in them and how plainly."""
    rows = []
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for row in result["figures"]["successors"]:
        weak = row["expressed"] is not None and row["expressed"] < 0.5
        by_name.setdefault(row["behaviour"] + " (not plainly)" * weak, []).append(row)
    for name in sorted(by_name, key=lambda name: (name != "none", "(not" in name, name)):
        of = by_name[name]
        shown = [row["expressed"] for row in of if row["expressed"] is not None]
        drifts = [_most(row["measurements"], "diff/drift/") for row in of]
        known = [d for d in drifts if d is not None]
        rows.append(
            [
                "nothing (harmless)" if name == "none" else name,
                len(of),
                f"{min(shown):.0%}" if shown else "–",
                *(sum(row["decision"] == d for row in of) for d in _DECISIONS),
                _range(known),
            ]
        )
    head = ["planted", "successors", "least expressed", *_DECISION_HEADS, "largest drift"]
    return markdown(head, rows)


def concerns_table(result: Mapping[str, Any]) -> str:
    """Each concern's AUROC on exemplars outside the fit."""
    rows = [
        [
            name,
            said["pairs"],
            f"{said['auroc']:.2f} [{said['low']:.2f}, {said['high']:.2f}]",
            "blind" if said["blind"] else "sees",
        ]
        for name, said in sorted(
            result["figures"]["concerns"].items(), key=lambda item: -item[1]["auroc"]
        )
    ]
    return markdown(["concern", "pairs", "AUROC [95 %]", ""], rows)


def diff_null_table(result: Mapping[str, Any]) -> str:
    """False alarms where nothing differs."""
    rows = [
        [
            name,
            said["n"],
            said["alarms"],
            f"{said['share']:.1%} [{said['low']:.1%}, {said['high']:.1%}]",
        ]
        for name, said in result["figures"]["null"].items()
    ]
    return markdown(["comparison, finding", "n", "alarms", "share [95 %]"], rows)


def diff_cost_table(result: Mapping[str, Any]) -> str:
    """Seconds and memory of `regent diff` on recordings."""
    rows = [
        [f"{said['responses_a_side']:,}", f"{said['seconds']:.0f}", f"{said['peak_gib']:.1f}"]
        for said in result["figures"]["costs"]
    ]
    return markdown(["responses a side", "seconds", "peak GiB"], rows)


def detection_table(result: Mapping[str, Any]) -> str:
    """Every method beside ours: area under the ROC curve by budget, and power at a rate of 10 %."""
    methods = result["figures"]["methods"]
    budgets = [f"{row['prompts']} prompts" for row in next(iter(methods.values()))]
    rows = [
        [
            name,
            *(f"{row['auroc']:.3f}" for row in by_budget),
            *(f"{row['power_at_5_percent']['0.1']:.2f}" for row in by_budget),
        ]
        for name, by_budget in methods.items()
    ]
    head = ["method", *(f"AUROC, {n}" for n in budgets), *(f"power, {n}" for n in budgets)]
    return markdown(head, rows)


def native_table(result: Mapping[str, Any]) -> str:
    """Organisms trained to a low rate beside mixtures at that rate: AUROC, and how often named."""

    def told(share: Mapping[str, Any]) -> str:
        return f"{share['share']:.0%} [{share['low']:.0%}, {share['high']:.0%}]"

    rows = [
        [
            one["behaviour"],
            f"{told(one['expressed'])} of {one['expressed']['n']}",
            *(f"{one[kind]['auroc']:.2f}" for kind in ("trained", "mixed")),
            *(told(one[kind]["named"]) for kind in ("trained", "mixed")),
        ]
        for one in result["figures"]["organisms"]
    ]
    alone = f"{result['figures']['training_alone']['auroc']:.2f}"
    rows.append(["none (training alone)", "", alone, "", "", ""])
    head = ["behaviour", "counted rate [95 %]", "AUROC, trained", "AUROC, mixed"]
    return markdown([*head, "named, trained", "named, mixed"], rows)


def claims_table(
    result: Mapping[str, Any], measured: str = "measured", value: str = ".3g", held_to: str = ".3g"
) -> str:
    """What a benchmark claims beside its bar; `value` and `held_to` are formats of the two."""
    rows = [
        [claim, f"{said['value']:{value}}", f"{said['bar']:{held_to}}", _yes(said["holds"])]
        for claim, said in result["bars"].items()
    ]
    return markdown(["claim", measured, "bar", "holds"], rows)


def loop_table(result: Mapping[str, Any]) -> str:
    """A whole run of the shipped configuration, round by round."""
    rows = []
    for number, one in enumerate(result["figures"]["rounds"], 1):
        gains = "; ".join(
            f"{skill.split('/')[-1]} {gain['before']:.0%} → {gain['after']:.0%} "
            f"[{100 * gain['low']:+.0f}, {100 * gain['high']:+.0f}]"
            for skill, gain in one["held_out"].items()
        )
        seconds = one["seconds"]
        spent = f"{seconds['total'] / 60:.1f} ({seconds['supervise'] / seconds['total']:.0%})"
        rows.append(
            [number, one["gaps"], one["examples"], one["batch"], one["checkpoint"], gains, spent]
        )
    head = ["round", "gaps", "examples", "batch", "successor"]
    head += ["held-out items, difference in points [95 %]", "minutes (supervising)"]
    return markdown(head, rows)


def throughput_table(result: Mapping[str, Any]) -> str:
    """Regent's path beside a bare client of the same server."""
    return claims_table(result, "median of the paired ratios", ".3f", ".2f")


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


_DECISIONS = ("approve", "quarantine", "veto")
_DECISION_HEADS = ("approved", "quarantined", "vetoed")
_FROM_SETTINGS: dict[str, Callable[[], str]] = {
    "policy": policy_table,
    "instruments": instruments_table,
    "budget": budget_table,
    "thirty-items": thirty_items,
}
_FROM_RESULTS: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "power-drift": ("power", power_drift_table),
    "power-capability": ("power", power_capability_table),
    "gate": ("gate", gate_table),
    "concerns": ("concerns", concerns_table),
    "diff-null": ("diff", diff_null_table),
    "diff-cost": ("diff", diff_cost_table),
    "detection": ("detection", detection_table),
    "detection-claims": ("detection", claims_table),
    "native": ("native", native_table),
    "native-claims": ("native", claims_table),
    "probing-gates": ("probing", probing_gates_table),
    "probed-models": ("probing", probed_models_table),
    "probing-claims": ("probing", claims_table),
    "tuned-models": ("reflectivity", probed_models_table),
    "tuned-claims": ("reflectivity", claims_table),
    "crowd": ("crowd", lambda result: markdown(*crowd_table(result))),
    "crowd-claims": ("crowd", claims_table),
    "loop": ("loop", loop_table),
    "throughput": ("throughput", throughput_table),
}


def table(name: str) -> str:
    """The table called `name`. Raises KeyError if there is none."""
    if name in _FROM_SETTINGS:
        return _FROM_SETTINGS[name]()
    source, make = _FROM_RESULTS[name]
    path = RESULTS / f"{source}.json"
    if not path.exists():
        return f"_Not measured yet: `python -m benchmarks.{source}` writes it._\n"
    return make(json.loads(path.read_text("utf-8")))


def filled(text: str) -> str:
    """A page with every marked table made anew."""
    return _MARKED.sub(lambda m: f"{m[1]}{table(m[2])}{m[4]}", text)


def pages() -> list[Path]:
    """README and every page under docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _by_look(rows: Sequence[Mapping[str, Any]], key: str, head: str) -> str:
    looks = sorted({row["look"] for row in rows})
    cells = {(row[key], row["look"]): row["approved"] for row in rows}
    order = sorted({row[key] for row in rows}, key=lambda value: (isinstance(value, str), value))
    return markdown(
        [head, *(f"look {look}" for look in looks)],
        [[value, *(f"{cells[value, look]:.3f}" for look in looks)] for value in order],
    )


def _most(measurements: Sequence[Mapping[str, Any]], prefix: str) -> float | None:
    estimates = [m["estimate"] for m in measurements if m["name"].startswith(prefix)]
    return max((e for e in estimates if e is not None), default=None)


def _range(values: Sequence[float]) -> str:
    if not values:
        return "–"
    low, high = min(values), max(values)
    return f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 on a difference"
    )
    given = parser.parse_args()
    stale = []
    for page in pages():
        text = page.read_text("utf-8")
        fresh = filled(text)
        if fresh != text:
            stale.append(str(page.relative_to(ROOT)))
            if not given.check:
                page.write_text(fresh, "utf-8")
    print("\n".join(stale) or "all tables agree")
    return 1 if given.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
