"""Do two sides answer alike? One joint test of equality over several views of the responses.

Views: *meaning* (embeddings), *letters* (hashed character n-grams), *traits*, each as the squared
distance of the sides' mean features (MMD with a linear kernel, Gretton et al. 2012); *spread*, the
same prompt by prompt, which sees changes that cancel in the mean; and a *classifier*: ridge
regression on all features, cross-fitted over groups of prompts (Lopez-Paz & Oquab 2017). Labels
are exchanged within a prompt, all views under the same exchanges; each view is standardised over
the observed and exchanged values together and the largest is the statistic, so its p-value,
(1 + #)/(B + 1), is valid at any n and pays for the number of views. The classifier is fitted anew
for each exchange, which is exact and cheap, as ridge is linear in the labels.

Time and memory grow linearly with the responses (n log n by sorting), up to `_MOST` of them, drawn
by prompt; there is no kernel matrix.
Does not see: how large a difference is, or which (behaviours say that); dependence across prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer

from supervisor.diffing.features import Features
from supervisor.statistics.permutation import contrast_weights, exchanges, p_value, standardised

Array32 = NDArray[np.float32]
Floats = NDArray[np.float64]

_FOLDS = 5
_RIDGE = 0.001  # penalty, as a share of the features' total sum of squares
_EXCHANGES_AT_ONCE = 64
_MOST = 40_000  # responses: a random part of the prompts of a larger comparison, whatever they say
_FEW_LETTERS = HashingVectorizer(
    analyzer="char_wb", ngram_range=(2, 5), n_features=1024, norm="l2", lowercase=False
)


@dataclass(frozen=True)
class Equality:
    """The joint p-value, and each view's own (not adjusted): which view saw it, not a finding.

    `statistic`: the largest view, in standard deviations of the observed and exchanged together.
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
    meaning = np.asarray(features.meaning, dtype=np.float32)[order]
    texts = (features.texts[i] for i in order)
    few = _FEW_LETTERS.transform(text if text.strip() else "(empty)" for text in texts)
    letters: csr_matrix = csr_matrix(few.astype(np.float32))
    traits = _scaled(features.traits[order])
    classifier = _Ridge(
        np.hstack([meaning * 3.0, letters.toarray(), traits * 0.5]).astype(np.float32), prompt
    )
    starts = np.flatnonzero(np.r_[True, prompt[1:] != prompt[:-1]])
    values: dict[str, list[Floats]] = {}
    for rows in _in_turn(weights, prompt, rng, permutations):
        seen = {
            "meaning": _norms(rows @ meaning),
            "letters": _norms((letters.T @ rows.T).T),
            "traits": _norms(rows @ traits),
            "spread": _spread(rows, meaning, starts),
            "classifier": classifier.agreement(rows),
        }
        for view, value in seen.items():
            values.setdefault(view, []).append(value)
    views = {view: standardised(np.concatenate(parts)) for view, parts in values.items()}
    largest = np.max(list(views.values()), axis=0)
    return Equality(
        p_value(largest[0], largest[1:]),
        float(largest[0]),
        {view: p_value(value[0], value[1:]) for view, value in views.items()},
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


class _Ridge:
    """Ridge regression of labels on features, cross-fitted; labels may be exchanged in blocks."""

    def __init__(self, design: Array32, prompt: NDArray[np.int64]) -> None:
        if (
            len(design) < design.shape[1]
        ):  # ridge does not care for rotations: fewer columns, same fit
            left, scale, _ = np.linalg.svd(design, full_matrices=False)
            design = np.asarray(left * scale, dtype=np.float32)
        self.design = design
        _, rank = np.unique(prompt, return_inverse=True)
        self.fold = rank % min(_FOLDS, int(rank.max()) + 1)
        squares = np.einsum("nd,nd->n", design, design, dtype=np.float64)
        self.inverse: list[Array32] = []
        whole = design.T @ design
        for fold in range(int(self.fold.max()) + 1):
            inside = self.fold == fold
            part = design[inside]
            gram = (whole - part.T @ part).astype(np.float64)
            gram[np.diag_indices_from(gram)] += max(1e-6, _RIDGE * squares[~inside].sum())
            self.inverse.append(np.linalg.inv(gram).astype(np.float32))

    def agreement(self, rows: Array32) -> Floats:
        """Σ wᵢ f(xᵢ) for each row of labels w, f fitted on the other folds: [B]."""
        total = np.zeros(len(rows))
        if len(self.inverse) < 2:
            return total
        moments = [
            rows[:, self.fold == k] @ self.design[self.fold == k] for k in range(len(self.inverse))
        ]
        whole = np.sum(moments, axis=0)
        for own, inverse in zip(moments, self.inverse, strict=True):
            total += np.einsum("bd,bd->b", (whole - own) @ inverse, own)
        return total


def _in_turn(
    weights: Floats, prompt: NDArray[np.int64], rng: np.random.Generator, permutations: int
) -> Iterator[Array32]:
    """The observed weights first, then exchanged ones, a few at a time: [≤ 64, n]."""
    scaled = (weights / np.linalg.norm(weights)).astype(np.float32)
    yield scaled[None, :]
    for begin in range(0, permutations, _EXCHANGES_AT_ONCE):
        count = min(_EXCHANGES_AT_ONCE, permutations - begin)
        yield scaled[exchanges(prompt, rng, count)]


def _norms(rows: NDArray[np.floating]) -> Floats:
    dense = np.asarray(rows, dtype=np.float64)
    return np.asarray(np.einsum("bd,bd->b", dense, dense), dtype=np.float64)


def _spread(rows: Array32, meaning: Array32, starts: NDArray[np.int64]) -> Floats:
    """Σ over prompts of the squared distance of the sides' means in that prompt: [B]."""
    found = np.empty(len(rows))
    for i, row in enumerate(rows):
        by_prompt = np.add.reduceat(row[:, None] * meaning, starts, axis=0)
        found[i] = float(np.einsum("pd,pd->", by_prompt, by_prompt, dtype=np.float64))
    return found


def _scaled(traits: Floats) -> Array32:
    spread = traits.std(axis=0)
    scaled = (traits - traits.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return np.asarray(scaled, dtype=np.float32)
