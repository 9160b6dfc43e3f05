"""One- and two-parameter logistic item response models by marginal maximum likelihood.

P(right) = σ(slope·ability + intercept), ability standard normal in the crowd of respondents. 1PL
has one slope for all items, 2PL one an item, of either sign. EM over a grid of abilities (Bock &
Aitkin 1981), with the crowd's mean and spread free in each step and taken back into the items
(parameter-expanded EM; Liu, Rubin & Wu 1998): plain EM crawls where tests are long.

Does not see: dependence between items beyond ability, guessing (a lower asymptote), or an ability
that is far from normal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, logsumexp

Floats = NDArray[np.float64]
#: Slopes stay within: in a small crowd an item may part it perfectly, and its slope has no maximum.
STEEPEST = 5.0
_FARTHEST = 10.0  # intercepts
# As fine as the abilities that a thousand items leave uncertain: a coarser grid biases the slopes.
_GRID = np.linspace(-4.5, 4.5, 151)
_LOG_PRIOR = -(_GRID**2) / 2 - logsumexp(-(_GRID**2) / 2)
_STEPS, _STEADY = 400, 1e-3


@dataclass(frozen=True)
class Fit:
    """`slope`, `intercept`: [I]; `log_likelihood` at them, of `parameters` free ones."""

    slope: Floats
    intercept: Floats
    log_likelihood: float
    parameters: int

    @property
    def aic(self) -> float:
        return 2 * self.parameters - 2 * self.log_likelihood


def fit(responses: Floats, common_slope: bool) -> Fit:
    """The 1PL (`common_slope`) or 2PL of `responses`: [N respondents, I items] of 1, 0 and NaN.

    Deterministic. Raises ValueError on any other value, or on an item that all or none get right:
    its intercept has no maximum.
    """
    right, asked = _counts(responses)
    share = right.sum(0) / asked.sum(0).clip(1)
    if ((share <= 0) | (share >= 1)).any():
        place = int(np.argmax((share <= 0) | (share >= 1)))
        raise ValueError(f"item {place}: all or none get it right; leave it out beforehand")
    slope, intercept = np.ones(right.shape[1]), np.log(share / (1 - share))
    before = -np.inf
    for _ in range(_STEPS):
        by_grid = _by_grid(right, asked, slope, intercept) + _LOG_PRIOR
        whole = logsumexp(by_grid, axis=1)
        if (now := float(whole.sum())) - before < _STEADY:
            break
        before = now
        weight = np.exp(by_grid - whole[:, None])
        slope, intercept = _maximised(
            right.T @ weight, asked.T @ weight, slope, intercept, common_slope
        )
        mean = float((weight @ _GRID).mean())
        spread = float(np.sqrt((weight @ _GRID**2).mean() - mean**2))
        intercept = np.clip(intercept + slope * mean, -_FARTHEST, _FARTHEST)
        slope = np.clip(slope * spread, -STEEPEST, STEEPEST)
    free = len(slope) + (1 if common_slope else len(slope))
    if slope.sum() < 0:
        slope = -slope
    return Fit(slope, intercept, now, free)


def abilities(responses: Floats, fitted: Fit, group: NDArray[np.int64] | None = None) -> Floats:
    """Expected ability of each respondent by the items outside each group, [G, N]; without groups
    by all items, [1, N].

    `group`: [I], 0 to G - 1, items that depend on each other. An item's relation to an ability that
    rests on itself, or on its like, would be partly its relation to itself.
    """
    right, asked = _counts(responses)
    whole = _by_grid(right, asked, fitted.slope, fitted.intercept) + _LOG_PRIOR
    none = np.zeros(len(fitted.slope), dtype=bool)
    owned = [none] if group is None else [group == number for number in np.unique(group)]
    found = []
    for own in owned:
        others = whole - _by_grid(
            right[:, own], asked[:, own], fitted.slope[own], fitted.intercept[own]
        )
        weight = np.exp(others - others.max(axis=1, keepdims=True))
        found.append(weight @ _GRID / weight.sum(axis=1))
    return np.array(found)


def _counts(responses: Floats) -> tuple[Floats, Floats]:
    """1 where right, and 1 where asked: [N, I] each."""
    asked = ~np.isnan(responses)
    right = np.where(asked, responses, 0.0)
    if not np.isin(right, (0.0, 1.0)).all():
        raise ValueError("responses are 1, 0 or NaN")
    return right, asked.astype(np.float64)


def _by_grid(right: Floats, asked: Floats, slope: Floats, intercept: Floats) -> Floats:
    """Log-likelihood of each respondent at each ability of the grid: [N, Q]."""
    logit = slope[:, None] * _GRID + intercept[:, None]
    return np.asarray(right @ logit + asked @ log_expit(-logit))


def _maximised(
    right: Floats, asked: Floats, slope: Floats, intercept: Floats, common_slope: bool
) -> tuple[Floats, Floats]:
    """A few Newton steps on expected counts by item and ability: [I, Q] each."""
    for _ in range(3):
        p = expit(slope[:, None] * _GRID + intercept[:, None])
        off, weight = right - asked * p, asked * p * (1 - p)
        g_slope, g_intercept = off @ _GRID, off.sum(1)
        h_slope, h_cross, h_intercept = weight @ _GRID**2, weight @ _GRID, weight.sum(1) + 1e-9
        if common_slope:  # the intercepts profiled out
            step = (g_slope - h_cross * g_intercept / h_intercept).sum()
            d_slope = np.full(len(slope), step / (h_slope - h_cross**2 / h_intercept).sum())
        else:
            room = h_slope - h_cross**2 / h_intercept + 1e-9
            d_slope = (g_slope - h_cross * g_intercept / h_intercept) / room
        d_slope = np.clip(d_slope, -1.0, 1.0)
        d_intercept = (g_intercept - h_cross * d_slope) / h_intercept
        slope = np.clip(slope + d_slope, -STEEPEST, STEEPEST)
        intercept = np.clip(intercept + np.clip(d_intercept, -1, 1), -_FARTHEST, _FARTHEST)
    return slope, intercept
