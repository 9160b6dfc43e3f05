"""Do two sides answer alike? One joint test of equality over several views of the responses.

Labels are exchanged within a prompt, all `views` under the same exchanges; each view is
standardised over the observed and exchanged values together. The statistic is the larger of the
views' *consensus* (their mean) and the *clumps* alone, each standardised again, so that its
p-value, (1 + #)/(B + 1), is valid at any n and pays for the choice. A mean lets views that agree
add up; a rare behaviour shows in the clumps long before it moves any mean. (The largest of all
views pays for those that see nothing.)

Time and memory grow linearly with the responses (n log n by sorting), up to `_MOST` of them, drawn
by prompt; only clumps have a kernel matrix, over a few thousand.
Does not see: how large a difference is, or which (behaviours say that); dependence across prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supervisor.diffing.features import Features
from supervisor.diffing.views import views
from supervisor.statistics.permutation import contrast_weights, exchanges, p_value, standardised

Array32 = NDArray[np.float32]
Floats = NDArray[np.float64]

_EXCHANGES_AT_ONCE = 64
_MOST = 40_000  # responses: a random part of the prompts of a larger comparison, whatever they say


@dataclass(frozen=True)
class Equality:
    """The joint p-value, and each view's own (not adjusted): which view saw it, not a finding.

    `statistic`: in standard deviations of the observed and exchanged together.
    """

    p_value: float
    statistic: float
    by_view: dict[str, float]
    permutations: int


def equality(
    features: Features,
    prompt: NDArray[np.int64],
    side: NDArray[np.int64],
    rng: np.random.Generator,
    permutations: int = 499,
) -> Equality:
    """Tests that both sides answer alike. `prompt`, `side` (0 left, 1 right): [n].

    Every prompt weighs the same and needs a response of each side; the numbers of samples may
    differ. Raises ValueError on arrays that do not fit or fewer than one permutation.
    """
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, not {permutations}")
    order = _within_reach(prompt, rng)
    prompt, side = prompt[order], side[order]
    weights = contrast_weights(prompt, side)
    looked = views(features.rows(order), prompt)
    values: dict[str, list[Floats]] = {}
    for rows in _in_turn(weights, prompt, rng, permutations):
        for name, view in looked.items():
            values.setdefault(name, []).append(view(rows))
    seen = {name: standardised(np.concatenate(parts)) for name, parts in values.items()}
    consensus = standardised(np.mean(list(seen.values()), axis=0))
    largest = np.maximum(consensus, seen["clumps"])
    return Equality(
        p_value(largest[0], largest[1:]),
        float(largest[0]),
        {name: p_value(value[0], value[1:]) for name, value in seen.items()},
        permutations,
    )


def _within_reach(prompt: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of the responses that are compared, those of a prompt side by side."""
    names, counts = np.unique(prompt, return_counts=True)
    mixed = rng.permutation(len(names))
    taken = np.cumsum(counts[mixed]) <= _MOST
    taken[0] = True
    order = np.argsort(prompt, kind="stable")
    return np.asarray(order[np.isin(prompt[order], names[mixed[taken]])], dtype=np.int64)


def _in_turn(
    weights: Floats, prompt: NDArray[np.int64], rng: np.random.Generator, permutations: int
) -> Iterator[Array32]:
    """The observed weights first, then exchanged ones, a few at a time: [≤ 64, n]."""
    scaled = (weights / np.linalg.norm(weights)).astype(np.float32)
    yield scaled[None, :]
    for begin in range(0, permutations, _EXCHANGES_AT_ONCE):
        count = min(_EXCHANGES_AT_ONCE, permutations - begin)
        yield scaled[exchanges(prompt, rng, count)]
