"""Tests that the detection benchmark stands beside: each gives a score, larger for more difference.

Model Equality Testing (Gao et al. 2024) by its own package; pooled MMD on sentence embeddings
(Gretton et al. 2012); a bag-of-words classifier two-sample test (Lopez-Paz & Oquab 2017); DAVT, the
auditing test that bets with a network on a behaviour's score (Richter et al. 2025); a paired t
statistic of log-probability (after log-probability tracking, 2512.03816). The last two take how
surprised the parent is by a response: a score that presets no behaviour.
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
_DAVT_BATCH, _DAVT_EPOCHS, _DAVT_PATIENCE = 25, 300, 10  # pairs; the last as published
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


def davt(case: Case) -> float:
    """Largest log wealth of DAVT at tolerance 0, with the parent's surprise as its scorer.

    A small network g reads a response's score; a pair (left, right) pays log(1 + tanh(g - g')).
    Each batch is bet on by the network that was trained, with early stopping, on the batches before
    it: Richter et al. 2025 (2410.19406), after Pandeva et al. 2024 (2310.19384).
    """
    import torch

    torch.manual_seed(case.seed)
    rng = np.random.default_rng([case.seed, 10])
    pairs = torch.from_numpy(rng.permutation(_pairs(case)).astype(np.float32))[..., None]
    batches = list(pairs.split(_DAVT_BATCH))
    held = max(1, len(batches[0]) // 5)
    past, check = batches[0][held:], batches[0][:held]
    net = torch.nn.Sequential(
        torch.nn.Linear(1, 30),
        torch.nn.LayerNorm(30),
        torch.nn.ReLU(),
        torch.nn.Linear(30, 30),
        torch.nn.LayerNorm(30),
        torch.nn.ReLU(),
        torch.nn.Linear(30, 1),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-4)

    def payoff(batch: torch.Tensor) -> torch.Tensor:
        return torch.log1p(torch.tanh(net(batch[:, 0]) - net(batch[:, 1])))

    wealth = most = 0.0
    for batch in batches[1:]:
        best, waited = np.inf, 0
        for _ in range(_DAVT_EPOCHS):
            optimizer.zero_grad()
            (-payoff(past).mean()).backward()
            optimizer.step()
            with torch.no_grad():
                loss = -float(payoff(check).mean())
            best, waited = (loss, 0) if loss < best else (best, waited + 1)
            if waited > _DAVT_PATIENCE:
                break
        with torch.no_grad():
            wealth += float(payoff(batch).sum())
        most = max(most, wealth)
        past, check = torch.cat([past, check]), batch
    return most


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
    "DAVT": davt,
    "t of surprise": surprise_t,
}
#: Those that need no weights of the parent.
BLACK_BOX = ("MET, Hamming", "MET, spectrum", "pooled MMD", "words classifier")


def _pairs(case: Case) -> Floats:
    """The surprise of a left and a right response to one prompt, as often as both have: [n, 2]."""
    pool, pairs = case.pool, []
    for prompt in range(len(pool.left)):
        left, right = (case.surprise[(pool.prompt == prompt) & (pool.side == s)] for s in (0, 1))
        pairs += list(zip(left, right, strict=False))
    return np.array(pairs)


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
