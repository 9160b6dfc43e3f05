"""The diff where nothing differs, and what it costs as recordings grow.

    python -m benchmarks.diff [--quick] [--json]

Null: SmolLM2 against itself (disjoint draws from a pool of 20 samples a prompt), and two speakers
that differ (temperatures 1.0 and 0.5) with their labels exchanged within each prompt. Counted: how
often equality is rejected at 5 %, and how often any behaviour is reported.
Cost: `regent diff` itself on two recordings, as a process: seconds and peak memory by size.
Whole runs write benchmarks/results/diff.json.
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.embedded import embed, keep, load, workers
from benchmarks.report import bar, finish
from regent.config import EngineConfig
from regent.models.embedded import cache_folder, smollm2_folder
from regent.models.engine import Engine
from regent.models.speaker import Sampling
from regent.models.weights import checkpoint_digest
from supervisor.diffing.comparison import Responses, pair
from supervisor.diffing.difference import difference
from supervisor.diffing.panel import Panel
from supervisor.diffing.prompts import Prompt, draw_all
from supervisor.served import ServedCheckpoint
from supervisor.statistics.exact import clopper_pearson

_ALPHA = 0.05
_TOKENS = 40
_POOL, _DRAWN = 20, 2  # samples a prompt in the pool, and on a side of one comparison
_SIZES, _QUICK_SIZES = (1_250, 5_000, 25_000, 100_000), (250, 500)
_PER_PROMPT = 2  # responses a side and prompt in the recordings
_GROWTH = 1.2  # exponent between the largest sizes: n log n gives at most 1.1 there

Said = list[tuple[str, list[str]]]
Alarm = tuple[bool, bool]  # equality rejected, any behaviour reported


def pool(prompts: list[Prompt], work: Path) -> tuple[Said, Said]:
    """SmolLM2's replies at temperature 1.0, `_POOL` a prompt, and at 0.5; kept in the cache."""
    panel = Panel(cache_folder() / "diff-pool")
    folder = smollm2_folder()
    with Engine.start(folder, EngineConfig(), work) as engine:
        # Named by its weights: an engine's own speaker is named by a port, which is never the same.
        speaker = ServedCheckpoint(checkpoint_digest(folder), folder, lambda: engine)
        warm = panel.ask(speaker, prompts, _POOL, Sampling(_TOKENS, 1.0))
        return warm, panel.ask(speaker, prompts, 2 * _DRAWN, Sampling(_TOKENS, 0.5))


def itself(warm: Said, seed: int) -> tuple[Responses, Responses]:
    """Two disjoint draws of one speaker's samples."""
    rng = np.random.default_rng([seed, 1])
    drawn = [(name, [said[i] for i in rng.permutation(len(said))]) for name, said in warm]
    return (
        [(name, said[:_DRAWN]) for name, said in drawn],
        [(name, said[_DRAWN : 2 * _DRAWN]) for name, said in drawn],
    )


def exchanged(warm: Said, cool: Said, seed: int) -> tuple[Responses, Responses]:
    """Two speakers that differ, their labels exchanged within each prompt."""
    rng = np.random.default_rng([seed, 2])
    sides: tuple[Said, Said] = ([], [])
    for (name, a), (_, b) in zip(warm, cool, strict=True):
        both = [a[i] for i in rng.permutation(len(a))[:_DRAWN]]
        both += [b[i] for i in rng.permutation(len(b))[:_DRAWN]]
        mixed = [both[i] for i in rng.permutation(len(both))]
        sides[0].append((name, mixed[:_DRAWN]))
        sides[1].append((name, mixed[_DRAWN:]))
    return sides


def alarms(pairs: Iterator[tuple[Responses, Responses]], rows: Path) -> list[Alarm]:
    """One alarm a pair, two processes at once. `rows`: embeddings of every text."""
    with workers(load, rows) as both:
        return list(both.map(_alarm, enumerate(pairs)))


def _alarm(numbered: tuple[int, tuple[Responses, Responses]]) -> Alarm:
    seed, (left, right) = numbered
    found = difference(pair(left, right, embed, sentences=True), alpha=_ALPHA, seed=seed)
    return found.equality.p_value <= _ALPHA, bool(found.behaviours)


def rate(flags: Sequence[bool]) -> dict[str, float]:
    """How many of `flags` are up, with the exact 95 % interval."""
    share, low, high = clopper_pearson(sum(flags), len(flags), 0.95)
    return {
        "alarms": sum(flags),
        "n": len(flags),
        "share": share,
        "low": round(low, 4),
        "high": round(high, 4),
    }


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
    prompts = draw_all("validation", 12 if quick else 50, 3)
    looks = 4 if quick else 200
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        warm, cool = pool(prompts, work / "logs")
        rows = keep((text for _, said in (*warm, *cool) for text in said), work)
        began = time.monotonic()
        same = alarms((itself(warm, seed) for seed in range(looks)), rows)
        mixed = alarms((exchanged(warm, cool, seed) for seed in range(looks)), rows)
        null = {
            "one model against itself, equality": rate([a for a, _ in same]),
            "one model against itself, any behaviour": rate([b for _, b in same]),
            "labels exchanged, equality": rate([a for a, _ in mixed]),
            "labels exchanged, any behaviour": rate([b for _, b in mixed]),
        }
        seconds = (time.monotonic() - began) / (2 * looks)
        costs = [cost(warm, size, work) for size in (_QUICK_SIZES if quick else _SIZES)]
    bars = {
        f"null, {name}: not above 5 % (lower end of the 95 % interval)": bar(
            said["low"], _ALPHA, said["low"] <= _ALPHA
        )
        for name, said in null.items()
    }
    if not quick:
        by_size = {c["responses_a_side"]: c for c in costs}
        five, most = by_size[5_000], by_size[100_000]
        near = by_size[25_000]
        growth = math.log(most["seconds"] / near["seconds"]) / math.log(4)
        bars |= {
            "5,000 responses a side, seconds": bar(five["seconds"], 60, five["seconds"] < 60),
            "100,000 a side, seconds": bar(most["seconds"], 900, most["seconds"] < 900),
            "100,000 a side, peak GiB": bar(most["peak_gib"], 4, most["peak_gib"] < 4),
            "growth from 25,000 to 100,000, exponent": bar(
                round(growth, 2), _GROWTH, growth <= _GROWTH
            ),
        }
    figures = {
        "prompts": len(prompts),
        "samples_a_side": _DRAWN,
        "tokens_a_response": _TOKENS,
        "null": null,
        "seconds_a_comparison": round(seconds, 2),
        "costs": costs,
    }
    return {"seed": 0, "figures": figures, "bars": bars}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="4 comparisons, small recordings")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    return finish("diff", run(given.quick), given.json, whole=not given.quick)


if __name__ == "__main__":
    raise SystemExit(main())
