"""The slope of a logistic regression on one variable, with bounds from the profile likelihood.

Many regressions at once. A bound is where twice the fall of the log-likelihood, maximised over the
intercept, reaches the normal quantile's square: unlike an estimate ± standard errors it holds where
few observations are parted almost perfectly, and then has no end. `inflation` divides the
likelihood where observations come in clusters (Rao & Scott 1992).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

Floats = NDArray[np.float64]
_HALVINGS, _NEWTON = 26, 30


class Slopes:
    """Regressions of y on x, row by row: [R, N] each; y is 1, 0, or NaN where missing.

    Slopes are sought within ± `steepest`. Each row needs both a 1 and a 0.
    """

    def __init__(self, x: Floats, y: Floats, steepest: float, inflation: float = 1.0) -> None:
        self.seen = (~np.isnan(y)).astype(np.float64)
        self.y = np.where(np.isnan(y), 0.0, y)
        if ((self.y.sum(1) == 0) | (self.y.sum(1) == self.seen.sum(1))).any():
            raise ValueError("a row with one outcome alone has no slope")
        centre = (x * self.seen).sum(1, keepdims=True) / self.seen.sum(1, keepdims=True)
        self.x, self.steepest, self.inflation = (x - centre) * self.seen, steepest, inflation
        share = self.y.sum(1) / self.seen.sum(1)
        self._intercept = np.log(share / (1 - share))
        edge = np.full(len(share), steepest)
        self.slope = self._crossing(-edge, edge, lambda b: self._gradient(b) > 0)
        self._most = self._log_likelihood(self.slope)

    def roots(self, slope: float) -> Floats:
        """Signed root of the likelihood ratio against `slope`, about standard normal if it is so,
        negative where the estimate is less: [R].
        """
        fall = self._fall(np.full(len(self.slope), slope))
        return np.asarray(np.sign(self.slope - slope) * np.sqrt(fall))

    def bounds(self, z: float) -> tuple[Floats, Floats]:
        """The slopes on either side whose likelihood is lower by z²/2: [R] each; infinite where
        none within ± `steepest` is.
        """
        edge = np.full(len(self.slope), self.steepest)

        def within(b: Floats) -> NDArray[np.bool_]:
            return self._fall(b) < z * z

        low = np.where(within(-edge), -np.inf, self._crossing(self.slope, -edge, within))
        high = np.where(within(edge), np.inf, self._crossing(self.slope, edge, within))
        return low, high

    def residuals(self) -> Floats:
        """y less its fitted probability, NaN where missing: [R, N]."""
        off = self.y - self._p(self.slope)
        return np.asarray(np.where(self.seen > 0, off, np.nan))

    def _fall(self, slope: Floats) -> Floats:
        fall = 2 * (self._most - self._log_likelihood(slope)) / self.inflation
        return np.asarray(np.maximum(fall, 0.0))

    def _log_likelihood(self, slope: Floats) -> Floats:
        logit = slope[:, None] * self.x + self._best_intercept(slope)[:, None]
        return np.asarray((self.y * logit + self.seen * log_expit(-logit)).sum(1))

    def _gradient(self, slope: Floats) -> Floats:
        return np.asarray(((self.y - self._p(slope)) * self.x).sum(1))

    def _p(self, slope: Floats) -> Floats:
        logit = slope[:, None] * self.x + self._best_intercept(slope)[:, None]
        return np.asarray(expit(logit) * self.seen)

    def _best_intercept(self, slope: Floats) -> Floats:
        """Newton's method; it begins where the last call ended."""
        lifted, intercept = slope[:, None] * self.x, self._intercept
        for _ in range(_NEWTON):
            p = expit(lifted + intercept[:, None]) * self.seen
            step = (self.y - p).sum(1) / ((p * (1 - p)).sum(1) + 1e-12)
            intercept = intercept + np.clip(step, -1.0, 1.0)
            if np.abs(step).max() < 1e-6:
                break
        self._intercept = intercept
        return np.asarray(intercept)

    @staticmethod
    def _crossing(
        inside: Floats, outside: Floats, holds: Callable[[Floats], NDArray[np.bool_]]
    ) -> Floats:
        """Where `holds` turns false between `inside` and `outside`, by bisection."""
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            yes = holds(middle)
            inside, outside = np.where(yes, middle, inside), np.where(yes, outside, middle)
        return np.asarray((inside + outside) / 2)
