"""Permutation tests for paired prompts: labels are exchanged within a prompt, never across.

For each prompt there are some replies of the parent and some of the child. If both sides draw from
one distribution, any assignment of the labels within the prompt is equally likely, so
p = (1 + #{null ≥ observed}) / (B + 1) is valid at any n (Phipson & Smyth 2010). Several parent
samples against one child sample (exchange among k + 1) are the same test with other weights.

Does not see: replies that depend on each other across prompts (one shared seed, a stateful server);
how large a difference is (that is what an interval is for).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def exchanges(prompt: ArrayLike, rng: np.random.Generator, permutations: int) -> Integers:
    """Random permutations of 0…N−1 that keep every item within its prompt: [B, N].

    `prompt`: [N] integers. `values[exchanges(...)]` exchanges labels within the prompt.
    """
    _, rank = np.unique(np.asarray(prompt), return_inverse=True)
    home = np.argsort(rank, kind="stable")
    keys = rank[home] + rng.random((permutations, len(home)))
    order = np.empty((permutations, len(home)), dtype=np.int64)
    order[:, home] = home[np.argsort(keys, axis=1)]
    return order


def p_value(observed: float, null: ArrayLike) -> float:
    """(1 + #{null ≥ observed}) / (B + 1), with ties (to rounding) counted against the finding."""
    draws = np.asarray(null, dtype=np.float64)
    slack = 1e-9 * (1.0 + abs(observed))
    return float((1 + np.count_nonzero(draws >= observed - slack)) / (len(draws) + 1))


def max_adjusted(observed: ArrayLike, null: ArrayLike) -> Floats:
    """p-values of several statistics with family-wise error control (Westfall & Young 1993, max-T).

    `observed`: [S]; `null`: [B, S], all statistics of one exchange in one row. Each is
    standardised over its observed and permuted values together, and compared with the row's
    largest.
    """
    values = np.vstack([np.asarray(observed, dtype=np.float64), np.asarray(null, dtype=np.float64)])
    scaled = np.apply_along_axis(standardised, 0, values)
    largest = scaled[1:].max(axis=1)
    return np.array([p_value(value, largest) for value in scaled[0]])


def contrast_weights(prompt: NDArray[np.generic], side: NDArray[np.generic]) -> Floats:
    """Child's mean minus parent's mean, each prompt weighing 1/P: [N]."""
    if not np.isin(side, (0, 1)).all():
        raise ValueError("side must be 0 (parent) or 1 (child)")
    names, rank = np.unique(prompt, return_inverse=True)
    child = np.bincount(rank, weights=side == 1, minlength=len(names))
    parent = np.bincount(rank, weights=side == 0, minlength=len(names))
    lonely = names[(child == 0) | (parent == 0)]
    if len(lonely):
        raise ValueError(f"prompt {lonely[0]} lacks replies of one side; drop it beforehand")
    weights = np.where(side == 1, 1 / child[rank], -1 / parent[rank]) / len(names)
    return np.asarray(weights, dtype=np.float64)


def standardised(values: Floats) -> Floats:
    """Centred and scaled by all values, the observed included, so that exchangeability is kept."""
    spread = float(values.std())
    if spread <= 1e-12 * (1.0 + float(np.abs(values).max())):
        return np.zeros_like(values)
    return np.asarray((values - values.mean()) / spread, dtype=np.float64)
