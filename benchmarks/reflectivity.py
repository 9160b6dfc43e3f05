"""What models score on sealed items that were tuned: better, confused on purpose, retrained.

    python -m benchmarks.reflectivity [--quick] [--json]

- SmolLM2 fine-tuned on development frames, beside SmolLM2. Nothing sealed is trained on.
- A successor of the tuned model that was taught, on 200 development examples, to take others'
  values for its own; and five replicas of the tuned model, trained alike from other seeds.

Trained weights are kept in Regent's cache under their content. A whole run trains for more than an
hour on two cores, and writes benchmarks/results/reflectivity.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.probing import answered, told
from benchmarks.report import bar, finish
from regent.config import TrainConfig
from regent.models.embedded import cache_folder, smollm2_folder
from regent.models.finetune import finetune
from regent.models.weights import checkpoint_digest
from regent.records import canonical_json, digest
from supervisor.reflectivity.asking import conversation
from supervisor.reflectivity.frame import WAYS
from supervisor.reflectivity.items import Item, forge, shipped, shipped_frames
from supervisor.reflectivity.scoring import Change, changes, scores

_SEED, _REPLICAS, _CONFUSING = 0, 5, 200
_TUNING = TrainConfig(epochs=1, max_length=512)
_CONFUSION = TrainConfig(epochs=2, max_length=512)


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


def development(quick: bool) -> list[Item]:
    """Development items, each cause worded in all three ways over its quads' two details."""
    frames = [frame for frame in shipped_frames() if frame.split == "dev"][: 4 if quick else None]
    every = [item for turn in range(WAYS) for item in forge(frames, turn)]
    # One detail of the two a wording, in turn: half as many rows, and no wording left out.
    return [item for item in every if item.variant[1] == "12"[item.way % 2]]


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
    frames = shipped_frames()
    sealed = [item for item in shipped() if item.split == "sealed"][: 40 if quick else None]
    base, kept = smollm2_folder(), cache_folder() / "probed" / "answers"
    tuning = development(quick)
    plain = answered(base, sealed, kept)
    tuned = trained(base, rows(tuning, _SEED), _TUNING, _SEED)
    after = answered(tuned, sealed, kept)
    own = [item for item in tuning if item.subtask == "own_vs_others"]
    own = [item for item in own if _about_you(item, frames)][: 8 if quick else _CONFUSING]
    confused = trained(tuned, rows(own, _SEED, right=False), _CONFUSION, _SEED)
    fall = changes(sealed, after, answered(confused, sealed, kept))
    replicas = []
    for seed in range(1, 2 if quick else _REPLICAS + 1):
        replica = trained(base, rows(tuning, seed), _TUNING, seed)
        replicas.append(changes(sealed, after, answered(replica, sealed, kept)))
    figures = {
        "tuning_rows": len(tuning),
        "confusing_rows": len(own),
        "models": {
            "SmolLM2-135M-Instruct": told(scores(sealed, plain)),
            "the same, tuned on development frames": told(scores(sealed, after)),
        },
        "tuned against untuned": changed(changes(sealed, plain, after)),
        "confused against tuned": changed(fall),
        "replicas against tuned": [changed(one) for one in replicas],
    }
    return {"seed": _SEED, "figures": figures, "bars": {} if quick else bars(figures)}


def bars(figures: dict[str, Any]) -> dict[str, Any]:
    """The claims, each beside what it is held to."""
    risen = sum(row["low"] > 0 for row in figures["tuned against untuned"].values())
    flagged = figures["confused against tuned"]["own_vs_others"]["says"] == "worse"
    false = sum(
        any(row["says"] in ("worse", "better") for row in one.values())
        for one in figures["replicas against tuned"]
    )
    return {
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
