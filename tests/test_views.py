"""Each view of equality sees what it is for.

1. A small clump of alike responses on different prompts is seen where they are alike.
2. A change that cancels across prompts is seen prompt by prompt.
3. The classifier's quick fit is the plain ridge regression, fold by fold.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from supervisor.diffing.views import View, classifier, clumps, spread
from supervisor.statistics.permutation import contrast_weights, exchanges

Array32 = NDArray[np.float32]


def shape(prompts: int, each: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    prompt = np.repeat(np.arange(prompts), 2 * each)
    return prompt, np.tile(np.repeat([0, 1], each), prompts)


def inner(design: Array32, prompt: NDArray[np.int64]) -> Array32:
    means = np.array([design[prompt == p].mean(axis=0) for p in prompt])
    return np.asarray(design - means, dtype=np.float32)


def z_score(view: View, prompt: NDArray[np.int64], side: NDArray[np.int64], seed: int = 0) -> float:
    weights = contrast_weights(prompt, side).astype(np.float32)
    orders = exchanges(prompt, np.random.default_rng(seed), 400)
    null = view(weights[orders])
    return float((view(weights[None, :])[0] - null.mean()) / null.std())


def test_a_small_clump_among_loud_differences_is_seen() -> None:
    """Each reply goes its own way, far; one in ten of the right side's goes one way, not as far."""
    rng = np.random.default_rng(2)
    prompt, side = shape(100, 2)
    design = rng.normal(size=(len(prompt), 40)) * 2.0
    clump = np.flatnonzero((side == 1) & (rng.random(len(side)) < 0.1))
    design[clump] = rng.normal(size=40) * 0.8 + rng.normal(size=(len(clump), 40)) * 0.2
    rows = design.astype(np.float32)
    plain = z_score(lambda w: np.linalg.norm(w @ rows, axis=1), prompt, side)
    found = z_score(clumps(rows, prompt), prompt, side)
    assert found > 4.0 > plain


def test_likeness_within_one_prompt_does_not_count() -> None:
    rng = np.random.default_rng(3)
    prompt, side = shape(50, 3)
    own = rng.normal(size=(50, 2, 10))  # each side of each prompt has a place of its own
    rows = (own[prompt, side] + rng.normal(size=(300, 10)) * 0.01).astype(np.float32)
    assert abs(z_score(clumps(inner(rows, prompt), prompt), prompt, side)) < 3.0
    assert z_score(spread(rows, prompt), prompt, side) > 5.0


def test_clumps_are_sought_among_whole_prompts_within_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("supervisor.diffing.views._MOST_CLUMPS", 41)
    prompt, _ = shape(30, 2)
    rows = np.ones((120, 6), dtype=np.float32)
    weights = np.zeros((2, 120), dtype=np.float32)
    weights[0, 40:] = 1.0  # beyond the tenth prompt: not seen
    weights[1, :40] = 1.0
    assert clumps(rows, prompt)(weights) == pytest.approx([0.0, np.sqrt(40 * 36)])


def test_the_classifier_is_ridge_regression_fold_by_fold() -> None:
    rng = np.random.default_rng(5)
    prompt, side = shape(25, 1)
    rows = rng.normal(size=(50, 6)).astype(np.float32)
    weights = contrast_weights(prompt, side).astype(np.float32)
    total, fold = 0.0, prompt % 5
    for k in range(5):
        fit, held = fold != k, fold == k
        penalty = 0.001 * float((rows[fit] ** 2).sum())
        model = Ridge(alpha=penalty, fit_intercept=False).fit(rows[fit], weights[fit])
        total += float(weights[held] @ model.predict(rows[held]))
    assert classifier(rows, prompt)(weights[None, :])[0] == pytest.approx(total, rel=1e-3)
