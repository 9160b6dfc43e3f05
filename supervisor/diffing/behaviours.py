"""Behaviours: yes/no patterns found on discovery prompts, frozen, then counted on other prompts.

All are found without being told what to look for:
- a *contrast*: the direction (logistic regression over meaning, letters and traits) that best
  tells the sides apart, cut at the threshold that parts them best on discovery, out of fold;
- *phrases* that one side says far more than the other, and *traits*;
- and, in rooms of their own, `clusters` of both sides' responses and `novelty`.

Because each is frozen before the validation prompts are answered, its share on either side is a
plain proportion, and the contrast's difference in shares is a lower bound on the total variation
distance between the two speakers: the drift as this instrument sees it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from supervisor.diffing.features import MANNERS, TRAITS, Features
from supervisor.diffing.terms import document_frequency

Indicator = Callable[[Features], NDArray[np.float64]]
_MEANING, _TRAITS = 3.0, 0.5  # what they weigh beside letters, whose rows have norm 1


@dataclass(frozen=True)
class Behaviour:
    """A frozen pattern: `show(features)` is 1.0 where a response shows it, else 0.0: [n].

    A concern's is how far each response shows it, in [0, 1]; its share is the mean.
    """

    id: str
    label: str
    kind: str
    show: Indicator
    terms: tuple[str, ...] = ()
    parts: frozenset[str] = frozenset()  # clusters that it is made of: nested ones share some


def design(features: Features) -> csr_matrix:
    """All features side by side, as a linear classifier takes them: [n, 384 + 4096 + T]."""
    return csr_matrix(
        hstack(
            [
                csr_matrix(features.meaning * _MEANING),
                features.letters,
                csr_matrix(features.traits * _TRAITS),
            ],
            dtype=np.float64,
        )
    )


def decide(model: LogisticRegression, features: Features) -> NDArray[np.float64]:
    """The decision function of a classifier that was fitted to `design`, without making it: [n], or
    of more than two classes [n, classes].
    """
    # In the features' own precision: a double would have all of them copied as doubles.
    weights, width = model.coef_.T.astype(np.float32), features.meaning.shape[1]
    letters = width + features.letters.shape[1]
    found = (
        features.meaning @ (_MEANING * weights[:width])
        + features.letters @ weights[width:letters]
        + features.traits @ (_TRAITS * weights[letters:])
        + model.intercept_
    )
    return np.asarray(found[:, 0] if found.shape[1] == 1 else found, dtype=np.float64)


MOST_PHRASES = 3


def most_behaviours(clusters: int) -> int:
    """How many behaviours discovery can bring beside the contrast."""
    return MOST_PHRASES + clusters + len(TRAITS)


def find_contrast(
    features: Features, side: NDArray[np.int64], prompt: NDArray[np.int64]
) -> Behaviour:
    """The direction that best tells side 1 from side 0 (labels [n]), folds grouped by prompt [n].

    The threshold maximises Youden's J on out-of-fold scores, so it does not flatter the fit.
    """
    rows = design(features)
    folds = GroupKFold(n_splits=min(5, len(np.unique(prompt))))
    scores = np.zeros(len(side))
    for train, test in folds.split(rows, side, prompt):
        model = LogisticRegression(C=1.0, max_iter=500, class_weight="balanced")
        scores[test] = model.fit(rows[train], side[train]).decision_function(rows[test])
    order = np.argsort(scores)
    ones = np.cumsum(side[order][::-1])[::-1] / max(1, side.sum())
    zeros = np.cumsum((1 - side[order])[::-1])[::-1] / max(1, (1 - side).sum())
    threshold = float(scores[order][int(np.argmax(ones - zeros))])
    final = LogisticRegression(C=1.0, max_iter=500, class_weight="balanced").fit(rows, side)

    def show(seen: Features) -> NDArray[np.float64]:
        return np.asarray(decide(final, seen) >= threshold, dtype=np.float64)

    return Behaviour("contrast", "what best tells the sides apart", "contrast", show)


def find_phrases(
    features: Features, side: NDArray[np.int64], most: int = MOST_PHRASES
) -> list[Behaviour]:
    """Word n-grams (n = 1–4) whose document share differs most between the sides, one a wording."""
    left = document_frequency(
        [t for t, s in zip(features.texts, side, strict=True) if s == 0], (1, 2, 3, 4)
    )
    right = document_frequency(
        [t for t, s in zip(features.texts, side, strict=True) if s == 1], (1, 2, 3, 4)
    )
    n_left, n_right = int((side == 0).sum()), int((side == 1).sum())
    gap = {
        gram: right[gram] / max(1, n_right) - left[gram] / max(1, n_left)
        for gram in {*left, *right}
    }
    chosen: list[str] = []
    for gram in sorted(gap, key=lambda g: (-abs(gap[g]), -len(g), g)):
        if len(chosen) == most or abs(gap[gram]) < 0.05:
            break
        if not any(set(gram.split()) & set(other.split()) for other in chosen):
            chosen.append(gram)

    return [
        Behaviour(f"phrase-{i}", f"says “{gram}”", "phrase", says(gram), (gram,))
        for i, gram in enumerate(chosen)
    ]


def says(words: str) -> Indicator:
    """The response says these words, whole, whatever their case and what stands between them."""
    pattern = re.compile(
        r"(?<!\w)" + r"\W+".join(map(re.escape, words.split())) + r"(?!\w)", re.IGNORECASE
    )

    def show(seen: Features) -> NDArray[np.float64]:
        return np.array([float(pattern.search(text) is not None) for text in seen.texts])

    return show


def trait_behaviours() -> list[Behaviour]:
    """The cheap traits, as behaviours."""

    def column(index: int) -> Indicator:
        return lambda seen: seen.traits[:, index]

    return [Behaviour(f"trait-{name}", name, "trait", column(i)) for i, name in enumerate(TRAITS)]


def manner_behaviours() -> list[Behaviour]:
    """Manners that no trait holds, as behaviours."""

    def has(manner: Callable[[str], bool]) -> Indicator:
        return lambda seen: np.array([float(manner(text)) for text in seen.texts])

    return [Behaviour(f"trait-{name}", name, "trait", has(one)) for name, one in MANNERS.items()]
