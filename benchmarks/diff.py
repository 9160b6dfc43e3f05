"""What `regent diff` costs as recordings grow.

    python -m benchmarks.diff [--quick] [--json]

`regent diff` itself on two recordings, as a process: seconds and peak memory by size, and how they
grow. Whole runs write benchmarks/results/diff.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.null import Said, pool
from benchmarks.report import bar, finish
from supervisor.diffing.prompts import draw_all

_SIZES, _QUICK_SIZES = (1_250, 5_000, 25_000, 100_000), (250, 500)
_PER_PROMPT = 2  # responses a side and prompt in the recordings
_GROWTH = 1.2  # exponent between the largest sizes: n log n gives at most 1.1 there


def recordings(warm: Said, size: int, folder: Path) -> tuple[Path, Path]:
    """Two files of `size` responses, no text twice: the start of one reply, the end of another."""
    texts = [text for _, said in warm for text in said]
    rng = np.random.default_rng(size)
    paths = (folder / f"left-{size}.jsonl", folder / f"right-{size}.jsonl")
    for path in paths:
        with path.open("w", encoding="utf-8") as file:
            for i in range(size):
                first, second = (texts[int(j)] for j in rng.integers(len(texts), size=2))
                text = f"{first[: len(first) // 2]} {i} {second[len(second) // 2 :]}"
                name = f"p{i // _PER_PROMPT}"
                row = {"prompt_id": name, "prompt": name, "response": text}
                file.write(json.dumps(row) + "\n")
    return paths


def cost(warm: Said, size: int, folder: Path) -> dict[str, float]:
    """Seconds and peak memory of `regent diff` on two recordings of `size` responses each."""
    left, right = recordings(warm, size, folder)
    began = time.monotonic()
    command = [sys.executable, "-m", "agents.cli", "diff", str(left), str(right), "--json"]
    with (folder / "out").open("wb") as out:
        child = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 1, 3):
        raise RuntimeError(f"regent diff ended with {child.returncode}")
    return {
        "responses_a_side": size,
        "seconds": round(time.monotonic() - began, 1),
        "peak_gib": round(usage.ru_maxrss / 1024**2, 2),
    }


def run(quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        warm, _ = pool(draw_all("validation", 12 if quick else 50, 3), work / "logs")
        costs = [cost(warm, size, work) for size in (_QUICK_SIZES if quick else _SIZES)]
    bars = {}
    if not quick:
        by_size = {c["responses_a_side"]: c for c in costs}
        five, near, most = (by_size[size] for size in (5_000, 25_000, 100_000))
        growth = math.log(most["seconds"] / near["seconds"]) / math.log(4)
        bars = {
            "5,000 responses a side, seconds": bar(five["seconds"], 60, five["seconds"] < 60),
            "100,000 a side, seconds": bar(most["seconds"], 900, most["seconds"] < 900),
            "100,000 a side, peak GiB": bar(most["peak_gib"], 4, most["peak_gib"] < 4),
            "growth from 25,000 to 100,000, exponent": bar(
                round(growth, 2), _GROWTH, growth <= _GROWTH
            ),
        }
    return {"seed": 0, "figures": {"costs": costs}, "bars": bars}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="small recordings")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    return finish("diff", run(given.quick), given.json, whole=not given.quick)


if __name__ == "__main__":
    raise SystemExit(main())
