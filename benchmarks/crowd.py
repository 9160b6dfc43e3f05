"""Which sealed items tell this project's models apart: a crowd of checkpoints in several manners.

    python -m benchmarks.crowd [--quick] [--json]

- The crowd: random weights of SmolLM2's shape, SmolLM2, and SmolLM2 fine-tuned on development
  frames at several strengths, two seeds each; every one in every manner. Nothing sealed is trained
  on.
- A crowd that is known to be at chance: random weights from several seeds, alone.
- Simulated crowds of the same size, a third of their items flat and a third at the threshold: how
  many of the items that are named are not flat, and how many flat ones are named.

Trained weights and answers are kept in Regent's cache. A whole run trains and asks for some hours
on two cores, and writes benchmarks/results/crowd.json.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from scipy.special import expit

from benchmarks.probing import random_weights
from benchmarks.reflectivity import development, rows, trained
from benchmarks.report import bar, finish
from regent.config import TrainConfig
from regent.models.embedded import cache_folder, smollm2_folder
from regent.models.speaker import Speaker
from supervisor.reflectivity.crowd import gather
from supervisor.reflectivity.frame import SUBTASKS
from supervisor.reflectivity.item_response import THRESHOLD, Crowd, Word, analyse
from supervisor.reflectivity.items import Item, shipped
from supervisor.reflectivity.manners import MANNERS
from supervisor.reflectivity.witness import local_witness

_SEED = 0
_TUNING = TrainConfig(epochs=1, max_length=512)
_STRENGTHS, _SEEDS = (1 / 8, 1 / 4, 1 / 2, 1.0), (0, 1)  # shares of the development rows
_COINS = 5  # random-weights models: with the manners, 25 respondents
_SIMULATED, _SIMULATED_ITEMS = 20, 300


def members(quick: bool, scratch: Path) -> Iterator[tuple[str, Speaker]]:
    """Each checkpoint with its name in the tables, made when its turn comes."""
    yield "random weights", local_witness(random_weights(scratch / "random"))
    base = smollm2_folder()
    yield "SmolLM2-135M-Instruct", local_witness(base)
    tuning = development(quick)
    for share in (0.1,) if quick else _STRENGTHS:
        for seed in (0,) if quick else _SEEDS:
            drawn = np.random.default_rng([seed, 71]).permutation(len(tuning))
            some = [tuning[i] for i in sorted(drawn[: round(share * len(tuning))])]
            tuned = trained(base, rows(some, seed), _TUNING, seed)
            yield f"tuned on {len(some)} rows, seed {seed}", local_witness(tuned)


def coins(quick: bool, scratch: Path) -> Iterator[tuple[str, Speaker]]:
    """Random weights, seed by seed."""
    for seed in range(1, 1 + (1 if quick else _COINS)):
        folder = random_weights(scratch / f"random-{seed}", seed)
        yield f"random weights, seed {seed}", local_witness(folder)


def simulated(respondents: int, crowds: int) -> dict[str, Any]:
    """Crowds of so many independent respondents: the truth of every item is known."""
    named = wrong = flat = 0
    for seed in range(crowds):
        rng = np.random.default_rng([_SEED, 72, seed])
        ability = rng.normal(size=respondents)
        ability = (ability - ability.mean()) / ability.std()
        slope = np.resize([0.0, THRESHOLD, 2 * THRESHOLD], _SIMULATED_ITEMS)
        logit = slope * ability[:, None] + rng.normal(size=_SIMULATED_ITEMS)
        right = (rng.random(logit.shape) < expit(logit)).astype(np.float64)
        quads = [f"q{i // 4}" for i in range(_SIMULATED_ITEMS)]
        found = analyse(right, [f"c{i}" for i in range(respondents)], quads, seed)
        is_named = np.array([one.word == "flat" for one in found.items])
        named += int(is_named.sum())
        wrong += int(is_named[slope >= THRESHOLD].sum())
        flat += int((slope == 0).sum())
    return {
        "respondents": respondents,
        "crowds": crowds,
        "items": _SIMULATED_ITEMS,
        "named": named,
        "named_not_flat": wrong,
        "flat_named": round((named - wrong) / flat, 4),
    }


def told(crowd: Crowd, items: Sequence[Item]) -> dict[str, Any]:
    """The crowd's figures; items by sub-task and word, and the names of those to look at."""
    words = Counter((i.subtask, one.word) for i, one in zip(items, crowd.items, strict=True))

    def named(word: Word) -> list[str]:
        return [i.id for i, one in zip(items, crowd.items, strict=True) if one.word == word]

    return {
        "respondents": crowd.respondents,
        "checkpoints": crowd.checkpoints,
        "effective": _rounded(crowd.effective),
        "reliability": _rounded(crowd.reliability),
        "p_value": _rounded(crowd.p_value),
        "aic": {"1PL": _rounded(crowd.aic_1pl), "2PL": _rounded(crowd.aic_2pl)},
        "better": crowd.better,
        "blind": crowd.blind,
        "words": {s: {word: words[s, word] for word in get_args(Word)} for s in SUBTASKS},
        "flat": named("flat"),
        "all_right": named("all right"),
        "none_right": named("none right"),
    }


def run(quick: bool) -> dict[str, Any]:
    sealed = [item for item in shipped() if item.split == "sealed"]
    asked = sealed[:8] if quick else sealed
    manners, kept = MANNERS[:2] if quick else MANNERS, cache_folder() / "probed" / "answers"
    with tempfile.TemporaryDirectory() as scratch:
        ours = gather(members(quick, Path(scratch)), asked, kept, manners=manners)
        chance = gather(coins(quick, Path(scratch)), asked, kept, manners=manners)
    crowd, null = ours.analysed(asked, _SEED), chance.analysed(asked, _SEED)
    independent = crowd.effective if np.isfinite(crowd.effective) else crowd.respondents
    known = simulated(max(20, round(independent)), 2 if quick else _SIMULATED)
    figures = {
        "items": len(asked),
        "accuracy": [
            {"model": model, "manner": manner, "accuracy": round(float(np.nanmean(row)), 4)}
            for model, manner, row in zip(ours.model, ours.manner, ours.responses, strict=True)
        ],
        "crowds": {
            "this project's models": told(crowd, asked),
            "random weights": told(null, asked),
        },
        "simulated": known,
    }
    share = known["named_not_flat"] / max(1, known["named"])
    bars = {"named items that are not flat, simulated": bar(round(share, 4), 0.05, share <= 0.05)}
    if not quick:
        bars |= {
            "the crowd can say something": bar(int(not crowd.blind), 1, not crowd.blind),
            "a crowd of random weights is blind": bar(int(bool(null.blind)), 1, bool(null.blind)),
        }
    return {"seed": _SEED, "figures": figures, "bars": bars}


def _rounded(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="8 items, 4 models, 2 manners")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    return finish("crowd", run(given.quick), given.json, whole=not given.quick)


if __name__ == "__main__":
    raise SystemExit(main())
