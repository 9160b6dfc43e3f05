"""A whole run of the shipped configuration: what it found, gained and cost.

    python -m benchmarks.loop [--quick] [--json] [--run FOLDER]

Performs `regent run` with configs/default.yaml and reads its status, or reads that of a finished
run in FOLDER (a run of the shipped configuration, on the machine that reports). `--quick` is one
small round. Bars: twenty minutes for two rounds, supervision at most 40 % of each, and at least
one trained skill that rises on fresh held-out items with a 95 % interval that excludes zero.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from agents.status import status
from benchmarks.report import bar, finish
from regent.config import load_config

_CONFIG = Path("configs/default.yaml")
_MINUTES = 20.0
_SUPERVISING = 0.40
QUICK = """
rounds: 1
environments: [{name: reasoning, skills: [products], levels: [0]}]
profile: {items: 8, confirm_items: 8}
experiment: {experiments: 2, tasks: 8}
curate: {examples: 16}
ray: {dashboard: false}
policy:
  checkpoint: [{name: diff, settings: {discovery_prompts: 8, gate_prompts: 8, stages: 1}}]
"""


def figures_of(folder: Path) -> dict[str, Any]:
    """The figures of the finished run in `folder`. Raises ValueError where it is not finished."""
    seen = status(folder)
    if seen["state"] != "finished":
        raise ValueError(f"{folder}: the run is {seen['state']}, not finished")
    rounds = seen["rounds"]
    total = sum(one["seconds"]["total"] for one in rounds)
    return {
        "seed": load_config(folder / "config.yaml").seed,
        "minutes": round(total / 60, 1),
        "share": {
            part: round(sum(one["seconds"][part] for one in rounds) / total, 3)
            for part in ("profile", "experiment", "train", "supervise")
        },
        "tokens": sum(one["tokens"]["total"] for one in rounds),
        "canaries": seen["canaries"],
        "budget": seen["budget"],
        "rounds": [
            {
                "gaps": len(one["gaps"]),
                "experiments": one["experiments"],
                "examples": one["examples"],
                "batch": (one["batch_verdict"] or {}).get("decision", "none"),
                "checkpoint": (one["checkpoint_verdict"] or {}).get("decision", "none"),
                "held_out": one["held_out"],
                "seconds": one["seconds"],
                "instruments": one["instruments"],
            }
            for one in rounds
        ],
    }


def report(figures: dict[str, Any], whole: bool) -> dict[str, Any]:
    """The figures with the bars that they are held to."""
    gains = [gain for one in figures["rounds"] for gain in one["held_out"].values()]
    best = max((gain["low"] for gain in gains), default=-1.0)
    spent = [one["seconds"] for one in figures["rounds"]]
    supervising = round(max(s["supervise"] / s["total"] for s in spent), 3)
    bars = {}
    if whole:
        bars = {
            "two rounds end in at most 20 minutes, starting aside": bar(
                figures["minutes"], _MINUTES, figures["minutes"] <= _MINUTES
            ),
            "supervising takes at most 40 % of each round": bar(
                supervising, _SUPERVISING, supervising <= _SUPERVISING
            ),
            "a trained skill rises on fresh items, interval above zero": bar(best, 0.0, best > 0),
        }
    return {"seed": figures["seed"], "figures": figures, "bars": bars}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="one small round")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--run", type=Path, help="a finished run of the shipped configuration")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, config = given.run, _CONFIG
        if folder is None:
            folder = Path(temporary) / "run"
            if given.quick:
                config = Path(temporary) / "quick.yaml"
                config.write_text(QUICK, "utf-8")
            command = [sys.executable, "-m", "agents.cli", "run", str(folder), "-c", str(config)]
            subprocess.run(command, check=True, stdout=sys.stderr)
        figures = figures_of(folder)
    whole = not given.quick
    return finish("loop", report(figures, whole), given.json, whole)


if __name__ == "__main__":
    raise SystemExit(main())
