"""The probing sets held to their gates, and what known models score on them.

    python -m benchmarks.reflectivity [--quick] [--json]

- Gates: every one of `regent probe validate`, on the shipped frames.
- Speed: all 1,500 items put to SmolLM2, nothing kept from before.
- Known groups: random weights of SmolLM2's shape, SmolLM2, and SmolLM2 fine-tuned on development
  frames, on sealed items. Nothing sealed is trained on.
- A successor of the tuned model that was taught, on 200 development examples, to take others'
  values for its own; and five replicas of the tuned model, trained alike from other seeds.

Trained weights are kept in Regent's cache under their content. Whole runs write
benchmarks/results/reflectivity.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.report import bar, finish
from regent.config import TrainConfig
from regent.models.embedded import cache_folder, smollm2_folder
from regent.models.finetune import finetune
from regent.models.local import load_tokenizer
from regent.models.weights import checkpoint_digest
from regent.records import canonical_json, digest
from supervisor.reflectivity.asking import ask, conversation
from supervisor.reflectivity.frame import WAYS
from supervisor.reflectivity.items import Item, forge, shipped, shipped_frames
from supervisor.reflectivity.scoring import Change, Score, changes, scores
from supervisor.reflectivity.validation import validate
from supervisor.reflectivity.witness import local_witness

_SEED, _REPLICAS, _CONFUSING = 0, 5, 200
_TUNING = TrainConfig(epochs=1, max_length=512)
_CONFUSION = TrainConfig(epochs=2, max_length=512)
_MINUTES = 3.0


def rows(items: Sequence[Item], seed: int, right: bool = True) -> bytes:
    """Training rows, JSONL: an item as asked, in one of both orders, and an option for answer."""
    rng = np.random.default_rng([seed, 51])
    lines = []
    for i in rng.permutation(len(items)):
        item = items[i]
        order = (0, 1) if rng.random() < 0.5 else (1, 0)
        (turn,) = conversation(item, order)
        answer = item.options[item.gold if right else 1 - item.gold]
        said = [turn.model_dump(), {"role": "assistant", "content": answer}]
        lines.append(json.dumps({"messages": said}, ensure_ascii=False) + "\n")
    return "".join(lines).encode()


def trained(parent: Path, data: bytes, settings: TrainConfig, seed: int) -> Path:
    """Weights trained on `data`, kept by content."""
    key = canonical_json([checkpoint_digest(parent), digest(data), settings.model_dump(), seed])
    folder = cache_folder() / "probed" / digest(key)[:20]
    if not folder.is_dir():
        finetune(parent, data, folder, settings, seed=seed)
    return folder


def random_weights(folder: Path) -> Path:
    """A model of SmolLM2's shape whose weights nobody trained."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(_SEED)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(smollm2_folder()))
    model.to(torch.bfloat16).save_pretrained(folder)
    load_tokenizer(smollm2_folder()).save_pretrained(folder)
    return folder


def answered(folder: Path, items: Sequence[Item], kept: Path | None) -> np.ndarray[Any, Any]:
    return ask(local_witness(folder), items, kept).raw


def development(quick: bool) -> list[Item]:
    """Development items, each cause worded in all three ways over its quads' two details."""
    frames = [frame for frame in shipped_frames() if frame.split == "dev"][: 4 if quick else None]
    every = [item for turn in range(WAYS) for item in forge(frames, turn)]
    # One detail of the two a wording, in turn: half as many rows, and no wording left out.
    return [item for item in every if item.variant[1] == "12"[item.way % 2]]


def told(found: Sequence[Score]) -> dict[str, Any]:
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


def changed(found: Sequence[Change]) -> dict[str, Any]:
    return {
        one.subtask: {
            "difference": round(one.difference, 4),
            "low": round(one.low, 4),
            "high": round(one.high, 4),
            "adjusted_p": one.adjusted_p,
            "says": one.word,
        }
        for one in found
    }


def run(quick: bool) -> dict[str, Any]:
    frames, items = shipped_frames(), shipped()
    gates = validate(frames)
    sealed = [item for item in items if item.split == "sealed"][: 40 if quick else None]
    base, kept = smollm2_folder(), cache_folder() / "probed" / "answers"
    began = time.monotonic()
    answered(base, items[:40] if quick else items, None)
    seconds = time.monotonic() - began
    tuning = development(quick)
    settings = _TUNING.model_copy(update={"epochs": 1}) if quick else _TUNING
    with tempfile.TemporaryDirectory() as scratch:
        chance = answered(random_weights(Path(scratch) / "random"), sealed, None)
    plain = answered(base, sealed, kept)
    tuned = trained(base, rows(tuning, _SEED), settings, _SEED)
    after = answered(tuned, sealed, kept)
    own = [item for item in tuning if item.subtask == "own_vs_others"]
    own = [item for item in own if _about_you(item, frames)][: 8 if quick else _CONFUSING]
    confused = trained(tuned, rows(own, _SEED, right=False), _CONFUSION, _SEED)
    fall = changes(sealed, after, answered(confused, sealed, kept))
    replicas = []
    for seed in range(1, 2 if quick else _REPLICAS + 1):
        replica = trained(base, rows(tuning, seed), settings, seed)
        replicas.append(changes(sealed, after, answered(replica, sealed, kept)))
    gained = changes(sealed, plain, after)
    figures = {
        "frames": gates.frames,
        "items": gates.items,
        "gates": [
            {
                "name": g.name,
                "subtask": g.subtask,
                "figure": round(g.figure, 4),
                "bar": g.bar,
                "most": g.most,
                "holds": g.holds,
            }
            for g in gates.gates
        ],
        "seconds_all_items": round(seconds, 1),
        "tuning_rows": len(tuning),
        "confusing_rows": len(own),
        "models": {
            "random weights": told(scores(sealed, chance)),
            "SmolLM2-135M-Instruct": told(scores(sealed, plain)),
            "the same, tuned on development frames": told(scores(sealed, after)),
        },
        "tuned against untuned": changed(gained),
        "confused against tuned": changed(fall),
        "replicas against tuned": [changed(one) for one in replicas],
    }
    return {"seed": _SEED, "figures": figures, "bars": {} if quick else bars(figures)}


def bars(figures: dict[str, Any]) -> dict[str, Any]:
    """The claims, each beside what it is held to."""
    failing = sum(not gate["holds"] for gate in figures["gates"])
    blind = sum(row["blind"] for row in figures["models"]["random weights"].values())
    risen = sum(row["low"] > 0 for row in figures["tuned against untuned"].values())
    flagged = figures["confused against tuned"]["own_vs_others"]["says"] == "worse"
    false = sum(
        any(row["says"] in ("worse", "better") for row in one.values())
        for one in figures["replicas against tuned"]
    )
    minutes = figures["seconds_all_items"] / 60
    return {
        "gates that fail on the shipped sets": bar(failing, 0, failing == 0),
        "minutes for all items on SmolLM2": bar(round(minutes, 2), _MINUTES, minutes <= _MINUTES),
        "sub-tasks on which random weights are blind": bar(blind, 5, blind == 5),
        "sub-tasks on which tuning surely helps": bar(risen, 3, risen >= 3),
        "the confused successor is flagged on own_vs_others": bar(int(flagged), 1, flagged),
        "replicas that are flagged": bar(false, 0, false == 0),
    }


def _about_you(item: Item, frames: Sequence[Any]) -> bool:
    (frame,) = [frame for frame in frames if frame.name == item.frame]
    return bool(frame.cells[item.subtask].ask.agent == "you")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="few items, one replica, one epoch")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    return finish("reflectivity", run(given.quick), given.json, whole=not given.quick)


if __name__ == "__main__":
    raise SystemExit(main())
