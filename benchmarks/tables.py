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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import result_tables as of
from benchmarks.report import RESULTS
from benchmarks.result_tables import markdown
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


def policy_table() -> str:
    """What the shipped policy asks for, from the settings themselves."""
    chosen = {c.name: c.settings for c in (*Policy().batch, *Policy().checkpoint)}
    screens = ScreenSettings.model_validate(chosen["screens"]).model_dump()
    diff = DiffSettings.model_validate(chosen["diff"]).model_dump()
    skills = CapabilitySettings.model_validate(chosen["capability"]).model_dump()
    vetoing = "required; beyond it, veto"
    prompts = f"{diff['gate_prompts']} prompts a stratum, {diff['gate_samples']} samples a prompt"
    fall = "a fall of at most {:.2f}"
    rows = [
        *(
            [
                "batch",
                f"`screens/{name}`",
                f"a share of at most {screens[name]:.2f}",
                vetoing,
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
            quad = [item for item in own if item.frame == frames[place]]
            item = quad[int(rng.integers(len(quad)))]
            text = "\n>\n".join("> " + part for part in item.context.split("\n\n"))
            one, other = item.options
            parts.append(
                f"{text}\n>\n> *{item.question}*\n> (A) {one} (B) {other}\n\n"
                f"{'AB'[item.gold]} · `{item.id}`\n\n"
            )
    return "".join(parts)


def budget_table() -> str:
    """α of single looks, and the sum so far."""
    alpha = Policy().alpha
    rows = [
        [t, f"{share(alpha, t):.2g}", f"{sum(share(alpha, k) for k in range(1, t + 1)):.4f}"]
        for t in (1, 2, 3, 5, 10, 20, 100)
    ]
    return markdown(["look t", "α_t", "spent up to t"], rows)


_FROM_SETTINGS: dict[str, Callable[[], str]] = {
    "policy": policy_table,
    "instruments": instruments_table,
    "budget": budget_table,
    "thirty-items": thirty_items,
}
_FROM_RESULTS: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "power-drift": ("power", of.power_drift_table),
    "power-capability": ("power", of.power_capability_table),
    "gate": ("gate", of.gate_table),
    "concerns": ("concerns", of.concerns_table),
    "diff-null": ("null", of.false_alarms_table),
    "diff-cost": ("diff", of.diff_cost_table),
    "detection": ("detection", of.detection_table),
    "detection-claims": ("detection", of.claims_table),
    "native": ("native", of.native_table),
    "native-claims": ("native", of.claims_table),
    "probing-gates": ("probing", of.probing_gates_table),
    "probed-models": ("probing", of.probed_models_table),
    "probing-claims": ("probing", of.claims_table),
    "tuned-models": ("reflectivity", of.probed_models_table),
    "tuned-claims": ("reflectivity", of.claims_table),
    "crowd": ("crowd", of.crowd_table),
    "crowd-claims": ("crowd", of.claims_table),
    "loop": ("loop", of.loop_table),
    "throughput": ("throughput", of.throughput_table),
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
