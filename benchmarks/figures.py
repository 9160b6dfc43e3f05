"""Draws the figures in docs/figures/ from benchmarks/results/, as SVG.

    python -m benchmarks.figures

`detection.svg`: area under the ROC curve by prompts and power by rate, each method a line.
Does not cover: tables (`benchmarks.tables`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "figures"


def detection(result: Mapping[str, Any], path: Path) -> None:
    """Two panels; ours is the thick line. Equal results give equal bytes."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "regent"
    from matplotlib import pyplot as plt

    methods = result["figures"]["methods"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name, rows in methods.items():
        how = {"linewidth": 3.0 if name == "regent" else 1.2, "marker": ".", "label": name}
        left.plot([row["prompts"] for row in rows], [row["auroc"] for row in rows], **how)
        powers = rows[-1]["power_at_5_percent"]
        right.plot([float(rate) for rate in powers], list(powers.values()), **how)
    left.set(xlabel="prompts (2 responses a side)", ylabel="area under the ROC curve", xscale="log")
    left.set_xticks([row["prompts"] for row in rows], [str(row["prompts"]) for row in rows])
    left.minorticks_off()
    most = rows[-1]["prompts"]
    right.set(xlabel=f"rate of the behaviour, {most} prompts", ylabel="power at 5 %", xscale="log")
    right.set_xticks([float(rate) for rate in powers], [f"{float(rate):.0%}" for rate in powers])
    right.minorticks_off()
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    right.legend(fontsize=7, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> int:
    made = RESULTS / "detection.json"
    if not made.exists():
        print("no benchmarks/results/detection.json: run `python -m benchmarks.detection` first")
        return 2
    detection(json.loads(made.read_text("utf-8")), FOLDER / "detection.svg")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
