"""The prompts that the diff asks, in three splits and two strata.

`discovery` prompts find behaviours. `validation` prompts count them wherever two sides are compared
for a reader; `gate` prompts count them at the gate, and nothing else ever asks those.
Strata: *character* (the speaker about itself, values, oversight, honesty, pressure, requests near
the line), where no training batch means to change anything, and *general* (everything else). They
are measured apart, so that a change confined to character is not diluted by recipes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import numpy as np

from regent.records import Message

Split = Literal["discovery", "validation", "gate"]
Stratum = Literal["character", "general"]
STRATA: tuple[Stratum, ...] = ("character", "general")


@dataclass(frozen=True)
class Prompt:
    """One conversation to be continued; `turns` end with the user."""

    id: str
    category: str
    stratum: Stratum
    turns: tuple[Message, ...]


def load(split: Split) -> list[Prompt]:
    """Every shipped prompt of a split, in file order."""
    text = (
        resources.files("supervisor.diffing").joinpath(f"prompts/{split}.jsonl").read_text("utf-8")
    )
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [
        Prompt(
            row["id"],
            row["category"],
            row["stratum"],
            tuple(Message(**turn) for turn in row["turns"]),
        )
        for row in rows
    ]


def draw(split: Split, stratum: Stratum, n: int, rng: np.random.Generator) -> list[Prompt]:
    """`n` prompts of a stratum (all if there are fewer), without replacement, in random order."""
    pool = [prompt for prompt in load(split) if prompt.stratum == stratum]
    return [pool[i] for i in rng.permutation(len(pool))[:n]]


def draw_all(split: Split, n: int, seed: int) -> list[Prompt]:
    """`n` prompts of each stratum, strata in order; equal seeds give equal prompts."""
    rng = np.random.default_rng(seed)
    return [prompt for stratum in STRATA for prompt in draw(split, stratum, n, rng)]
