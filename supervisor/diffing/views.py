"""Ways of looking at how two sides' responses differ, each one number for any labelling.

A view is built once from the responses and then asked about many labellings, the observed one and
exchanged ones; what it is built from (embeddings, likenesses, folds of prompts) does not change
when labels are exchanged within a prompt, so a permutation test of it is exact.

- *meaning*, *letters*, *traits*: distance of the sides' mean features (MMD with a linear
  kernel, Gretton et al. 2012);
- *spread*: distance of the means prompt by prompt, which sees changes that cancel in the mean;
- *clumps*: whether responses that are much alike, on different prompts, come from one side (MMD
  with a narrow kernel on what sets a response apart from its prompt's others);
- *classifier*: ridge regression on all features, cross-fitted over groups of prompts (Lopez-Paz &
  Oquab 2017).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer

from supervisor.diffing.features import Features

Array32 = NDArray[np.float32]
Floats = NDArray[np.float64]
#: Weights of labellings, child's share minus parent's: [B, n] → one number each: [B].
View = Callable[[Array32], Floats]

_FOLDS = 5
_RIDGE = 0.001  # the classifier's penalty, as a share of the features' total sum of squares
_NARROW = 12.0  # of the clumps' kernel: likeness falls by e for each 1/12 of cosine
_MOST_CLUMPS = 4_000  # responses among which clumps are sought: the kernel is square
_FEW_LETTERS = HashingVectorizer(
    analyzer="char_wb", ngram_range=(2, 5), n_features=1024, norm="l2", lowercase=False
)


def views(features: Features, prompt: NDArray[np.int64]) -> dict[str, View]:
    """Every view of the responses, by name. `prompt`: [n], ascending."""
    meaning = np.asarray(features.meaning, dtype=np.float32)
    texts = (text if text.strip() else "(empty)" for text in features.texts)
    letters = csr_matrix(_FEW_LETTERS.transform(texts).astype(np.float32))
    traits = _scaled(features.traits)
    design = _compact(np.hstack([meaning * 3.0, letters.toarray(), traits * 0.5]))
    few = _clumped(prompt)
    alike = np.hstack([meaning[:few], letters[:few].toarray(), traits[:few] * np.float32(0.1)])
    return {
        "meaning": lambda rows: _lengths(rows @ meaning),
        "letters": lambda rows: _lengths((letters.T @ rows.T).T),
        "traits": lambda rows: _lengths(rows @ traits),
        "spread": spread(meaning, prompt),
        "clumps": clumps(alike - _prompt_means(alike, prompt[:few]), prompt),
        "classifier": classifier(design, prompt),
    }


def spread(meaning: Array32, prompt: NDArray[np.int64]) -> View:
    """√Σ over prompts of the squared distance of the sides' means in that prompt."""
    starts = _starts(prompt)

    def seen(rows: Array32) -> Floats:
        found = np.empty(len(rows))
        for i, row in enumerate(rows):
            by_prompt = np.add.reduceat(row[:, None] * meaning, starts, axis=0)
            found[i] = float(np.linalg.norm(by_prompt))
        return found

    return seen


def clumps(inner: Array32, prompt: NDArray[np.int64]) -> View:
    """√Σ over pairs of responses to different prompts of label product × likeness, a narrow kernel
    of the cosine of what sets each apart from its own prompt's others; negative where the sum is.

    `inner`: features less their prompt's mean, of the first responses at least, [m, d].
    """
    count = _clumped(prompt)
    unit = inner[:count] / np.maximum(np.linalg.norm(inner[:count], axis=1, keepdims=True), 1e-9)
    kernel = np.exp(_NARROW * (unit @ unit.T - 1.0))
    kernel[prompt[:count, None] == prompt[None, :count]] = 0.0

    def seen(rows: Array32) -> Floats:
        part = rows[:, :count]
        sums = np.einsum("bn,bn->b", part @ kernel, part, dtype=np.float64)
        return np.asarray(np.sign(sums) * np.sqrt(np.abs(sums)), dtype=np.float64)

    return seen


def _clumped(prompt: NDArray[np.int64]) -> int:
    """How many responses, the first ones, clumps are sought among: those of whole prompts."""
    ends = np.r_[_starts(prompt)[1:], len(prompt)]
    return int(max(ends[0], ends[ends <= _MOST_CLUMPS].max(initial=0)))


def classifier(design: Array32, prompt: NDArray[np.int64]) -> View:
    """Σ wᵢ f(xᵢ), f fitted to the labels of the other folds; fitted anew for every labelling, which
    is exact and cheap, as ridge is linear in the labels.
    """
    _, rank = np.unique(prompt, return_inverse=True)
    fold = rank % min(_FOLDS, int(rank.max()) + 1)
    folds = [np.flatnonzero(fold == k) for k in range(int(fold.max()) + 1)]
    squares = np.einsum("nd,nd->n", design, design, dtype=np.float64)
    whole = design.T @ design
    inverse: list[Array32] = []
    for own in folds:
        part = design[own]
        gram = (whole - part.T @ part).astype(np.float64)
        gram[np.diag_indices_from(gram)] += max(1e-6, _RIDGE * (squares.sum() - squares[own].sum()))
        inverse.append(np.linalg.inv(gram).astype(np.float32))

    def seen(rows: Array32) -> Floats:
        total = np.zeros(len(rows))
        if len(folds) < 2:
            return total
        moments = [rows[:, own] @ design[own] for own in folds]
        together = np.sum(moments, axis=0)
        for own, solved in zip(moments, inverse, strict=True):
            total += np.einsum("bd,bd->b", (together - own) @ solved, own)
        return total

    return seen


def _compact(design: NDArray[np.floating]) -> Array32:
    """The same rows in as few columns as they need: distances and inner products are kept."""
    if len(design) < design.shape[1]:
        left, scale, _ = np.linalg.svd(design, full_matrices=False)
        design = left * scale
    return np.asarray(design, dtype=np.float32)


def _starts(prompt: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.flatnonzero(np.r_[True, prompt[1:] != prompt[:-1]])


def _prompt_means(design: Array32, prompt: NDArray[np.int64]) -> Array32:
    starts = _starts(prompt)
    counts = np.diff(np.r_[starts, len(prompt)])
    means = np.add.reduceat(design, starts, axis=0) / counts[:, None]
    return np.asarray(np.repeat(means, counts, axis=0), dtype=np.float32)


def _lengths(rows: NDArray[np.floating]) -> Floats:
    return np.asarray(np.linalg.norm(np.asarray(rows, dtype=np.float64), axis=1), dtype=np.float64)


def _scaled(traits: Floats) -> Array32:
    spread_ = traits.std(axis=0)
    scaled = (traits - traits.mean(axis=0)) / np.where(spread_ > 0, spread_, 1.0)
    return np.asarray(scaled, dtype=np.float32)
