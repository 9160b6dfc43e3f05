"""Exact and near duplicates within a batch, and repeats of what was trained on before.

Near duplicates are found by MinHash LSH over character 5-grams (Broder 1997; the `datasketch`
library), then confirmed by their exact Jaccard similarity, so a hash collision drops nothing.
Does not see: paraphrases.
"""

from __future__ import annotations

from collections.abc import Sequence

from datasketch import MinHash, MinHashLSH

_PERMUTATIONS = 64


def shingles(text: str, size: int = 5) -> frozenset[str]:
    """Character n-grams of the text with white space folded."""
    folded = " ".join(text.split())
    return frozenset(folded[i : i + size] for i in range(max(1, len(folded) - size + 1)))


def exact_repeats(texts: Sequence[str]) -> list[int]:
    """Indices of texts that already stood earlier, case and white space aside."""
    seen: set[str] = set()
    repeated = []
    for index, text in enumerate(texts):
        key = " ".join(text.casefold().split())
        if key in seen:
            repeated.append(index)
        seen.add(key)
    return repeated


def near_repeats(texts: Sequence[str], threshold: float) -> list[int]:
    """Indices of texts with a Jaccard similarity of at least `threshold` to an earlier kept one."""
    index = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS)
    grams = [shingles(text) for text in texts]
    repeated = []
    for i, gram in enumerate(grams):
        sketch = MinHash(num_perm=_PERMUTATIONS, seed=1)
        sketch.update_batch([g.encode() for g in gram])
        close = (grams[int(str(j))] for j in index.query(sketch))
        if any(len(gram & other) / len(gram | other) >= threshold for other in close):
            repeated.append(i)
        else:
            index.insert(str(i), sketch)
    return repeated
