"""What a crowd of respondents is worth: whether it is more than coins, how reliable, how many.

A crowd at chance cannot tell items apart. The test exchanges checkpoints within each quad, all
their ways of being asked together: that keeps how hard each item is, what a quad's items share and
what a checkpoint's respondents share, and leaves no checkpoint better than another (the p-value is
valid at any size; Phipson & Smyth 2010).

Does not see: checkpoints that descend from each other, which count as if they did not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from supervisor.statistics.permutation import p_value

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_EXCHANGES = 999


def spread(
    responses: Floats, checkpoint: Integers, group: Integers, seed: int
) -> tuple[float, float]:
    """(p-value that checkpoints' scores spread no more than coins', Cronbach's α over quads).

    `responses`: [N, I], each item right for some and wrong for some; `checkpoint`: [N], `group`:
    [I], integers from 0. α is NaN where all respondents score alike.
    """
    centred = np.nan_to_num(responses - np.nanmean(responses, axis=0))
    by_quad = summed(centred.T, group).T
    by_checkpoint = summed(by_quad, checkpoint)
    rng = np.random.default_rng([seed, 61])
    null = [rng.permuted(by_checkpoint, axis=0).sum(1).var() for _ in range(_EXCHANGES)]
    p = p_value(float(by_checkpoint.sum(1).var()), null)
    quads, total = by_quad.shape[1], by_quad.sum(1).var()
    if total == 0:
        return p, float("nan")
    return p, float(quads / (quads - 1) * (1 - by_quad.var(axis=0).sum() / total))


def design_effect(residuals: Floats, checkpoint: Integers) -> float:
    """1 + (m - 1)ρ (Kish 1965): m respondents a checkpoint (weighted by themselves), ρ the
    correlation of their
    residuals, pooled over items; never less than 1. `residuals`: [N, I], NaN where missing.
    """
    seen, off = (~np.isnan(residuals)).astype(np.float64), np.nan_to_num(residuals)
    sums, counts = summed(off, checkpoint), summed(seen, checkpoint)
    pairs = (counts**2 - counts).sum()
    if pairs == 0:
        return 1.0
    shared = (sums**2).sum() - (off**2).sum()
    correlation = shared / pairs / ((off**2).sum() / seen.sum())
    sizes = np.bincount(checkpoint)
    each = float((sizes**2).sum() / sizes.sum())
    return max(1.0, 1 + (each - 1) * float(correlation))


def summed(rows: Floats, label: Integers) -> Floats:
    """Sums of rows by label: [labels, ...]."""
    found = np.zeros((int(label.max()) + 1, rows.shape[1]))
    np.add.at(found, label, rows)
    return found
