"""The pure core of the behavioural diff: responses of two sides in, behaviours with intervals out.

Two steps that must not share prompts: `discover` finds behaviours on discovery responses and
freezes them; `count` counts them on other responses, as anytime-valid confidence sequences for
the paired difference in share (a prompt is the unit: its samples are averaged first).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from supervisor.diffing.behaviours import (
    MOST_PHRASES,
    Behaviour,
    find_contrast,
    find_phrases,
    manner_behaviours,
    trait_behaviours,
)
from supervisor.diffing.clusters import find_clusters, find_sentence_clusters
from supervisor.diffing.features import Embed, Features, featurise
from supervisor.diffing.novelty import find_novelty
from supervisor.statistics.betting import confidence_sequence

_SENTENCE_CLUSTERS = 40
Responses = Sequence[tuple[str, Sequence[str]]]  # (prompt id, its samples), in order of sampling


@dataclass(frozen=True)
class Answered:
    """Both sides' responses to the same prompts, in the same order.

    `prompt`: [n], each response's prompt, as its place in `left` and `right`; `side`: [n], 0 left
    and 1 right.
    """

    left: Responses
    right: Responses
    prompt: NDArray[np.int64]
    side: NDArray[np.int64]

    def among(self, prompts: Sequence[int]) -> tuple[Answered, NDArray[np.int64]]:
        """Only these prompts (places, ascending), and which responses are theirs: [m]."""
        kept = np.flatnonzero(np.isin(self.prompt, prompts))
        answered = Answered(
            [self.left[i] for i in prompts],
            [self.right[i] for i in prompts],
            np.searchsorted(np.asarray(prompts), self.prompt[kept]),
            self.side[kept],
        )
        return answered, kept


@dataclass(frozen=True)
class Paired(Answered):
    """The same, and what each response looks like: `features` has a row a response."""

    features: Features

    def part(self, prompts: Sequence[int]) -> Paired:
        """Only these prompts (places, ascending); features are copied, not made again."""
        some, kept = self.among(prompts)
        return Paired(some.left, some.right, some.prompt, some.side, self.features.rows(kept))


@dataclass(frozen=True)
class Shift:
    """How much more of one behaviour the right side shows: shares, difference and its bounds.

    `low` and `high` are each one-sided valid at `level`, at any stopping time.
    `examples` are (left response, right response) of the prompts that differ most: of the side that
    shows it more a sample that does, of the other one that does not, where there is one.
    `by_prompt`: the difference on each prompt, in order: [prompts].
    """

    behaviour: Behaviour
    left_share: float
    right_share: float
    difference: float
    low: float
    high: float
    level: float
    examples: tuple[tuple[str, str], ...]
    by_prompt: NDArray[np.float64] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Levels:
    """Levels of the bounds: of the contrast, of every other behaviour; and over how many prompts.

    `horizon`: prompts planned before any was asked; the bounds are tightest there, valid anywhere.
    """

    contrast: float
    others: float
    horizon: int


MOST_IN_SENTENCES = 8_000  # responses: of more, sentences would double what embedding costs


def pair(left: Responses, right: Responses, embed: Embed, *, sentences: bool = False) -> Paired:
    """Both sides with their features, and with those of sentences unless there are too many.

    Raises ValueError unless both answer the same prompts.
    """
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
    return Paired(
        left,
        right,
        np.array(prompt, dtype=np.int64),
        np.array(side, dtype=np.int64),
        featurise(texts, embed, sentences=sentences and len(texts) <= MOST_IN_SENTENCES),
    )


def discover(
    pool: Paired,
    *,
    clusters: int,
    seed: int,
    phrases: int = MOST_PHRASES,
    deep: bool = False,
) -> list[Behaviour]:
    """Behaviours found on discovery responses of both sides, frozen; the contrast is the first.

    `deep` adds groups of clusters, clusters of sentences where there are any, more manners, and
    novelty: what is unlike anything that the left side says.
    """
    features, side = pool.features, pool.side
    novelty = find_novelty(features, side, pool.prompt) if deep else None
    return [
        find_contrast(features, side, pool.prompt),
        *find_phrases(features, side, phrases),
        *find_clusters(features, clusters, seed, groups=deep),
        *(find_sentence_clusters(features, _SENTENCE_CLUSTERS, seed) if deep else []),
        *trait_behaviours(),
        *(manner_behaviours() if deep else []),
        *([novelty] if novelty else []),
    ]


def shown(behaviours: Sequence[Behaviour], pool: Paired) -> NDArray[np.float64]:
    """Which response shows which behaviour, 0 or 1: [n, K]."""
    return np.stack([behaviour.show(pool.features) for behaviour in behaviours], axis=1)


def apart(shows: NDArray[np.float64], pool: Answered) -> NDArray[np.float64]:
    """By how many standard errors the sides' shares of each behaviour differ: [K], signed.

    `shows`: [n, K]. Infinite where every prompt differs alike, 0 where none does.
    """
    gaps = np.stack([np.diff(_shares(column, pool), axis=0)[0] for column in shows.T], axis=1)
    error = gaps.std(axis=0, ddof=1) / np.sqrt(len(gaps))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.nan_to_num(gaps.mean(axis=0) / error, nan=0.0), dtype=np.float64)


def count(
    behaviours: Sequence[Behaviour], shows: NDArray[np.float64], pool: Answered, levels: Levels
) -> list[Shift]:
    """The shift of each behaviour. `shows`: [n, K], as from `shown`."""
    shifts = []
    for column, behaviour in zip(shows.T, behaviours, strict=True):
        shares = _shares(column, pool)
        difference = shares[1] - shares[0]
        level = levels.contrast if behaviour.kind == "contrast" else levels.others
        estimate, low, high = confidence_sequence(difference, -1.0, 1.0, level, levels.horizon)
        shifts.append(
            Shift(
                behaviour,
                float(shares[0].mean()),
                float(shares[1].mean()),
                estimate,
                low,
                high,
                level,
                _examples(pool, column, difference),
                difference,
            )
        )
    return shifts


def contrast(shifts: Sequence[Shift]) -> Shift:
    """The frozen direction that best told the sides apart on discovery: the drift."""
    return next(shift for shift in shifts if shift.behaviour.kind == "contrast")


def _shares(shows: NDArray[np.float64], pool: Answered) -> NDArray[np.float64]:
    """Each side's mean of `shows` ([n]) by prompt: [2, prompts]."""
    prompts = int(pool.prompt.max()) + 1 if len(pool.prompt) else 0
    return np.stack(
        [
            np.bincount(pool.prompt[own], weights=shows[own], minlength=prompts)
            / np.bincount(pool.prompt[own], minlength=prompts)
            for own in (pool.side == 0, pool.side == 1)
        ]
    )


def _examples(
    pool: Answered, shows: NDArray[np.float64], difference: NDArray[np.float64], most: int = 2
) -> tuple[tuple[str, str], ...]:
    sign = 1.0 if difference.mean() >= 0 else -1.0

    def said(side: int, prompt: int) -> str:
        own = shows[(pool.side == side) & (pool.prompt == prompt)]
        sample = int(np.argmax((sign if side else -sign) * own))
        return str((pool.right if side else pool.left)[prompt][1][sample])

    prompts = np.argsort(-sign * difference, kind="stable")[:most]
    return tuple((said(0, int(p)), said(1, int(p))) for p in prompts)
