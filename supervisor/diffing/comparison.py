"""The pure core of the behavioural diff: responses of two sides in, behaviours with intervals out.

Two steps that must not share prompts: `discover` finds behaviours on discovery responses and
freezes them; `compare` counts them on other responses, as anytime-valid confidence sequences for
the paired difference in share (a prompt is the unit: its samples are averaged first).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supervisor.diffing.behaviours import (
    MOST_PHRASES,
    Behaviour,
    find_clusters,
    find_contrast,
    find_phrases,
    trait_behaviours,
)
from supervisor.diffing.features import Embed, Features, featurise
from supervisor.statistics.betting import confidence_sequence
from supervisor.statistics.permutation import paired_mmd

Responses = Sequence[tuple[str, Sequence[str]]]  # (prompt id, its samples), in order of sampling


@dataclass(frozen=True)
class Shift:
    """How much more of one behaviour the right side shows: shares, difference and its bounds.

    `low` and `high` are each one-sided valid at `level`, at any stopping time.
    `examples` are (left response, right response) of the prompts that differ most.
    """

    behaviour: Behaviour
    left_share: float
    right_share: float
    difference: float
    low: float
    high: float
    level: float
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Comparison:
    """All behaviours of one stratum, and the equality test over both sides' responses."""

    shifts: tuple[Shift, ...]
    p_value: float
    n_prompts: int

    @property
    def contrast(self) -> Shift:
        """The frozen direction that best told the sides apart on discovery: the drift."""
        return next(shift for shift in self.shifts if shift.behaviour.kind == "contrast")


def discover(
    left: Responses,
    right: Responses,
    embed: Embed,
    *,
    clusters: int,
    seed: int,
    phrases: int = MOST_PHRASES,
) -> list[Behaviour]:
    """Behaviours found on discovery responses of both sides, frozen. Prompts are paired by id."""
    features, prompt, side = stack(left, right, embed)
    return [
        find_contrast(features, side, prompt),
        *find_phrases(features, side, phrases),
        *find_clusters(features, clusters, seed),
        *trait_behaviours(),
    ]


def compare(
    behaviours: Sequence[Behaviour],
    left: Responses,
    right: Responses,
    embed: Embed,
    *,
    level: float,
    other_level: float,
    horizon: int,
    rng: np.random.Generator,
    permutations: int = 199,
) -> Comparison:
    """Shares of frozen behaviours on both sides. `horizon`: prompts planned before any was asked.

    The contrast is measured at `level`, every other behaviour at `other_level`.
    The p-value tests equality of the two speakers by swapping labels within a prompt (MMD on
    embeddings, Gretton et al. 2012); it says "different", not "too different".
    """
    features, prompt, side = stack(left, right, embed)
    shown = np.stack([behaviour.show(features) for behaviour in behaviours], axis=1)
    shifts = count_shifts(
        behaviours,
        shown,
        left,
        right,
        prompt,
        side,
        level=level,
        other_level=other_level,
        horizon=horizon,
    )
    kernel = np.exp(features.meaning @ features.meaning.T - 1.0).astype(np.float64)
    equality = paired_mmd(kernel, prompt, side, rng, permutations)
    return Comparison(tuple(shifts), equality.p_value, len(left))


def count_shifts(
    behaviours: Sequence[Behaviour],
    shown: NDArray[np.float64],
    left: Responses,
    right: Responses,
    prompt: NDArray[np.int64],
    side: NDArray[np.int64],
    *,
    level: float,
    other_level: float,
    horizon: int,
) -> list[Shift]:
    """The shift of each behaviour, from where it shows: [n, K]; `prompt`, `side`: [n]."""
    count = int(prompt.max()) + 1 if len(prompt) else 0
    shifts = []
    for column, behaviour in enumerate(behaviours):
        shares = np.stack(
            [_mean_by_prompt(shown[:, column], prompt, side == s, count) for s in (0, 1)]
        )
        difference = shares[1] - shares[0]
        own_level = level if behaviour.kind == "contrast" else other_level
        estimate, low, high = confidence_sequence(difference, -1.0, 1.0, own_level, horizon)
        shifts.append(
            Shift(
                behaviour,
                float(shares[0].mean()),
                float(shares[1].mean()),
                estimate,
                low,
                high,
                own_level,
                _examples(left, right, difference),
            )
        )
    return shifts


def stack(
    left: Responses, right: Responses, embed: Embed
) -> tuple[Features, NDArray[np.int64], NDArray[np.int64]]:
    """Features, prompt index and side of every response; both sides answer the same prompts."""
    if [p for p, _ in left] != [p for p, _ in right]:
        raise ValueError("the two sides must answer the same prompts in the same order")
    texts: list[str] = []
    prompt: list[int] = []
    side: list[int] = []
    for s, responses in enumerate((left, right)):
        for p, (_, samples) in enumerate(responses):
            texts.extend(samples)
            prompt.extend([p] * len(samples))
            side.extend([s] * len(samples))
    return featurise(texts, embed), np.array(prompt, dtype=np.int64), np.array(side, dtype=np.int64)


def _mean_by_prompt(
    values: NDArray[np.float64], prompt: NDArray[np.int64], mask: NDArray[np.bool_], count: int
) -> NDArray[np.float64]:
    total = np.bincount(prompt[mask], weights=values[mask], minlength=count)
    return np.asarray(total / np.bincount(prompt[mask], minlength=count), dtype=np.float64)


def _examples(
    left: Responses, right: Responses, difference: NDArray[np.float64], most: int = 2
) -> tuple[tuple[str, str], ...]:
    sign = 1.0 if difference.mean() >= 0 else -1.0
    rows = np.argsort(-sign * difference, kind="stable")[:most]
    return tuple((left[int(r)][1][0], right[int(r)][1][0]) for r in rows)
