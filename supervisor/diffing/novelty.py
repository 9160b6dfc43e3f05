"""Novelty: responses unlike anything that the left side (the parent, say) says.

A response is novel where its greatest likeness (cosine of sentence embeddings) to the left side's
discovery responses lies below what nineteen in twenty of those have to the responses to *other*
discovery prompts. Both sides' shares are counted with the same frozen bar, so the left's need not
be one in twenty on other prompts: the difference is what is tested.

Does not see: new things said in old words, nor anything that embeddings do not hold apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from supervisor.diffing.behaviours import Behaviour
from supervisor.diffing.features import Features
from supervisor.diffing.terms import contrastive_terms, document_frequency

_RARE = 0.05  # share of the left's own responses that count as unlike the rest
_AT_ONCE = 4_096  # responses compared at once


def find_novelty(
    features: Features, side: NDArray[np.int64], prompt: NDArray[np.int64]
) -> Behaviour | None:
    """The behaviour "unlike anything that the left says", from discovery responses.

    `side`, `prompt`: [n]. None where the left answered fewer than two prompts.
    """
    left = np.flatnonzero(side == 0)
    if len(np.unique(prompt[left])) < 2:
        return None
    known = np.asarray(features.meaning[left], dtype=np.float32)
    likeness = known @ known.T
    likeness[prompt[left][:, None] == prompt[left][None, :]] = -1.0
    bar = float(np.quantile(likeness.max(axis=1), _RARE))

    def show(seen: Features) -> NDArray[np.float64]:
        nearest = [
            (seen.meaning[begin : begin + _AT_ONCE] @ known.T).max(axis=1)
            for begin in range(0, len(seen.texts), _AT_ONCE)
        ]
        return np.asarray(np.concatenate(nearest) < bar, dtype=np.float64)

    # The right's own prompts are known to the left here: terms name it, nothing is counted on it.
    new = [
        text
        for text, own, unlike in zip(features.texts, side, show(features), strict=True)
        if own == 1 and unlike
    ]
    terms = contrastive_terms(
        document_frequency(new), document_frequency(features.texts), len(new), len(features.texts)
    )
    return Behaviour("novelty", "unlike anything that the left side says", "novelty", show, terms)
