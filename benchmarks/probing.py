"""The probing sets held to their gates, how long asking takes, and two models that nobody tuned.

    python -m benchmarks.probing [--quick] [--json]

- Gates: every one of `regent probe validate`, on the shipped frames.
- Speed: all 1,500 items put to SmolLM2, nothing kept from before; and whether a part of them, asked
  again, is answered the same.
- Random weights of SmolLM2's shape, and SmolLM2, on all items.

Models that were tuned are in `benchmarks.reflectivity`. Whole runs write
benchmarks/results/probing.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.report import bar, finish
from regent.models.embedded import smollm2_folder
from regent.models.local import load_tokenizer
from supervisor.reflectivity.asking import ask
from supervisor.reflectivity.items import Item, shipped, shipped_frames
from supervisor.reflectivity.scoring import Score, scores
from supervisor.reflectivity.validation import validate
from supervisor.reflectivity.witness import local_witness

_SEED = 0
_MINUTES = 3.0


def random_weights(folder: Path, seed: int = _SEED) -> Path:
    """A model of SmolLM2's shape whose weights nobody trained."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(smollm2_folder()))
    model.to(torch.bfloat16).save_pretrained(folder)
    load_tokenizer(smollm2_folder()).save_pretrained(folder)
    return folder


def answered(folder: Path, items: Sequence[Item], kept: Path | None = None) -> np.ndarray[Any, Any]:
    """Probability of the first option, by item: [n]."""
    return ask(local_witness(folder), items, kept).raw


def told(found: Sequence[Score]) -> dict[str, Any]:
    """Scores by sub-task, as JSON."""
    return {
        one.subtask: {
            "accuracy": round(one.accuracy, 4),
            "low": round(one.low, 4),
            "high": round(one.high, 4),
            "consistency": round(one.consistency, 4),
            "blind": one.blind,
            "n": one.n,
        }
        for one in found
    }


def run(quick: bool) -> dict[str, Any]:
    frames, items = shipped_frames(), shipped()
    gates = validate(frames)
    asked = [item for item in items if item.quad in _few(items)] if quick else items
    base = smollm2_folder()
    began = time.monotonic()
    plain = answered(base, asked)
    seconds = time.monotonic() - began
    again = answered(base, asked[:120])
    with tempfile.TemporaryDirectory() as scratch:
        chance = answered(random_weights(Path(scratch) / "random"), asked)
    figures = {
        "frames": gates.frames,
        "items": gates.items,
        "gates": [
            {
                "name": gate.name,
                "subtask": gate.subtask,
                "figure": round(gate.figure, 4),
                "bar": gate.bar,
                "most": gate.most,
                "holds": gate.holds,
            }
            for gate in gates.gates
        ],
        "seconds": round(seconds, 1),
        "models": {
            "random weights": told(scores(asked, chance)),
            "SmolLM2-135M-Instruct": told(scores(asked, plain)),
        },
    }
    failing = sum(not gate.holds for gate in gates.gates)
    differing = int((again != plain[:120]).sum())
    blind = sum(row["blind"] for row in figures["models"]["random weights"].values())
    bars = {
        "gates that fail on the shipped sets": bar(failing, 0, failing == 0),
        "answers that differ when asked again": bar(differing, 0, differing == 0),
    }
    if not quick:
        minutes = seconds / 60
        bars |= {
            "sub-tasks on which random weights are blind": bar(blind, 5, blind == 5),
            "minutes for all items on SmolLM2": bar(
                round(minutes, 2), _MINUTES, minutes <= _MINUTES
            ),
        }
    return {"seed": _SEED, "figures": figures, "bars": bars}


def _few(items: Sequence[Item]) -> set[str]:
    """Six quads a sub-task."""
    quads = dict.fromkeys(item.quad for item in items)
    by_subtask: dict[str, list[str]] = {}
    for quad in quads:
        by_subtask.setdefault(quad.split(".")[1], []).append(quad)
    return {quad for some in by_subtask.values() for quad in some[:6]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="120 items")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    return finish("probing", run(given.quick), given.json, whole=not given.quick)


if __name__ == "__main__":
    raise SystemExit(main())
