"""Tests that the detection benchmark stands beside: each gives a score, larger for more difference.

Model Equality Testing (Gao et al. 2024) by its own package; pooled MMD on sentence embeddings
(Gretton et al. 2012); a bag-of-words classifier two-sample test (Lopez-Paz & Oquab 2017); a test by
betting on a score (after DAVT, Richter et al. 2025) and a paired t statistic of it (after log-prob
tracking, 2512.03816), where the score is how surprised the parent is by a response.
Each takes a `Case`; a threshold comes from the same score where nothing differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from supervisor.diffing.comparison import Paired
from supervisor.diffing.equality import equality

Floats = NDArray[np.float64]
_LONGEST = 300  # characters that Model Equality Testing compares
_PERMUTATIONS = 99  # ours is standardised over these; no p-value is taken from so few


@dataclass(frozen=True)
class Case:
    """Both sides' responses, and the parent's surprise at each (nats a character): [n]."""

    pool: Paired
    surprise: Floats
    seed: int


def regent(case: Case) -> float:
    """The joint statistic of `supervisor.diffing.equality`."""
    pool, rng = case.pool, np.random.default_rng([case.seed, 9])
    return equality(pool.features, pool.prompt, pool.side, rng, _PERMUTATIONS).statistic


def met_hamming(case: Case) -> float:
    """Model Equality Testing, Hamming kernel."""
    from model_equality_testing.tests import mmd_hamming

    return float(mmd_hamming(*_completions(case)))


def met_spectrum(case: Case) -> float:
    """Model Equality Testing, k-spectrum kernel (k = 5, cumulative: its default)."""
    from model_equality_testing.tests import mmd_kspectrum

    return float(mmd_kspectrum(*_completions(case)))


def pooled_mmd(case: Case) -> float:
    """Squared distance of the sides' mean embeddings under an RBF kernel, prompts pooled."""
    rows, side = case.pool.features.meaning.astype(np.float64), case.pool.side
    kernel = np.exp(rows @ rows.T - 1.0)
    weights = np.where(side == 1, 1.0 / (side == 1).sum(), -1.0 / (side == 0).sum())
    return float(weights @ kernel @ weights)


def words_classifier(case: Case) -> float:
    """Accuracy out of fold of a logistic regression on words, folds grouped by prompt."""
    pool = case.pool
    rows = CountVectorizer(binary=True, min_df=2, token_pattern=r"\S+").fit_transform(
        pool.features.texts
    )
    right = 0
    for train, test in GroupKFold(5).split(rows, pool.side, pool.prompt):
        model = LogisticRegression(max_iter=300).fit(rows[train], pool.side[train])
        right += int((model.predict(rows[test]) == pool.side[test]).sum())
    return right / len(pool.side)


def betting(case: Case) -> float:
    """Largest log wealth of bets on the paired difference in surprise, either way, over prompts."""
    gaps = _gaps(case)
    scaled = np.clip(gaps / max(1e-9, float(np.quantile(np.abs(gaps), 0.9))), -1.0, 1.0)
    best = 0.0
    for sign in (1.0, -1.0):
        for stake in (0.1, 0.3, 0.5):
            best = max(best, float(np.cumsum(np.log1p(sign * stake * scaled)).max()))
    return best


def surprise_t(case: Case) -> float:
    """|t| of the paired difference in surprise."""
    gaps = _gaps(case)
    return float(abs(gaps.mean()) / max(1e-12, gaps.std(ddof=1) / np.sqrt(len(gaps))))


METHODS: dict[str, Callable[[Case], float]] = {
    "regent": regent,
    "MET, Hamming": met_hamming,
    "MET, spectrum": met_spectrum,
    "pooled MMD": pooled_mmd,
    "words classifier": words_classifier,
    "betting on surprise": betting,
    "t of surprise": surprise_t,
}
#: Those that need no weights of the parent.
BLACK_BOX = ("MET, Hamming", "MET, spectrum", "pooled MMD", "words classifier")


def _gaps(case: Case) -> Floats:
    """Right minus left, mean surprise by prompt: [P]."""
    pool, count = case.pool, len(case.pool.left)
    means = [
        np.bincount(pool.prompt[pool.side == s], case.surprise[pool.side == s], count)
        / np.bincount(pool.prompt[pool.side == s], minlength=count)
        for s in (0, 1)
    ]
    return np.asarray(means[1] - means[0], dtype=np.float64)


def _completions(case: Case) -> tuple[object, object]:
    from model_equality_testing.distribution import CompletionSample

    pool = case.pool
    codes = _codes(pool.features.texts)
    return tuple(  # type: ignore[return-value]
        CompletionSample(pool.prompt[pool.side == s], codes[pool.side == s], len(pool.left))
        for s in (0, 1)
    )


def _codes(texts: Sequence[str]) -> NDArray[np.int64]:
    """Unicode code points, cut and padded with -1, as the package's own tokeniser gives them."""
    cut = [text[:_LONGEST] for text in texts]
    codes = np.full((len(cut), max(1, *map(len, cut))), -1, dtype=np.int64)
    for row, text in enumerate(cut):
        codes[row, : len(text)] = [ord(letter) for letter in text]
    return codes
