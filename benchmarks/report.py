"""The one form in which every benchmark reports: figures, bars, and the machine that gave them.

One JSON object with `--json`: `{"machine", "seed", "figures", "bars": {claim: {"value", "bar",
"holds"}}}`; exit code 1 where a bar does not hold. Whole runs are kept in benchmarks/results/.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def bar(value: float, bound: float, holds: bool) -> dict[str, Any]:
    """One claim: the value seen, the bar that it is held to, and whether it holds."""
    return {"value": value, "bar": bound, "holds": holds}


def machine() -> str:
    """The processor and the number of cores, in words."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return f"{model}, {os.cpu_count()} cores"


def finish(name: str, report: dict[str, Any], as_json: bool, whole: bool) -> int:
    """Print the report, keep it if the run was whole, and return the exit code."""
    report = {"machine": machine(), **report}
    if whole:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    if as_json:
        print(json.dumps(report))
    else:
        print(json.dumps(report["figures"], indent=1))
        for claim, said in report["bars"].items():
            print(
                f"{'holds' if said['holds'] else 'FAILS'}: {claim} "
                f"({said['value']:g}, bar {said['bar']:g})"
            )
    return 0 if all(said["holds"] for said in report["bars"].values()) else 1
