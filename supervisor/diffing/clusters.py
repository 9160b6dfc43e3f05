"""Clusters of both sides' responses by meaning, and what they add up to.

k-means over sentence embeddings makes the leaves; Ward linkage (Ward 1963) of their centres makes a
tree of groups over them. Leaves and groups are all behaviours, "lies in it", so that a shift
spread thinly over many clusters is seen in the group where it adds up; max-T over all of them pays
for the number, and not much, as nested groups go together.

Does not see: a change of manner within a topic, where meaning follows the prompt.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from sklearn.cluster import KMeans

from supervisor.diffing.behaviours import Behaviour, Indicator
from supervisor.diffing.features import Features
from supervisor.diffing.terms import contrastive_terms, document_frequency

_FEWEST = 8  # responses a cluster, on average


def find_clusters(
    features: Features, count: int, seed: int, *, groups: bool = False
) -> list[Behaviour]:
    """`count` clusters of all responses by meaning, and with `groups` the tree over them.

    Fewer where there are fewer than eight responses for each; none below two. The whole (the
    tree's root) is no behaviour.
    """
    count = min(count, len(features.texts) // _FEWEST)
    if count < 2:
        return []
    assigned = _Assigned(KMeans(n_clusters=count, n_init=3, random_state=seed))
    labels = assigned.fit(features)
    leaves = [frozenset([index]) for index in range(count)]
    nodes = [(f"cluster-{index}", leaf) for index, leaf in enumerate(leaves)]
    if groups:
        tree = [*leaves]
        for left, right in linkage(assigned.centres, "ward")[:-1, :2].astype(int):
            tree.append(tree[left] | tree[right])
        nodes += [(f"group-{index}", node) for index, node in enumerate(tree[count:])]
    found = []
    for name, members in nodes:
        terms = _terms_of(features, np.isin(labels, sorted(members)))
        found.append(
            Behaviour(
                name,
                "talk of " + ", ".join(terms[:3]),
                "cluster",
                assigned.member(members),
                terms,
                frozenset(f"cluster-{index}" for index in members),
            )
        )
    return found


def _terms_of(features: Features, inside: NDArray[np.bool_]) -> tuple[str, ...]:
    texts = [text for text, own in zip(features.texts, inside, strict=True) if own]
    whole = document_frequency(features.texts)
    return contrastive_terms(document_frequency(texts), whole, len(texts), len(features.texts))


def regions(
    features: Features, count: int, seed: int
) -> list[tuple[NDArray[np.float64], tuple[str, ...]]]:
    """Centres of clusters of the responses, [384] each, and the terms of each."""
    count = min(count, len(features.texts) // _FEWEST)
    if count < 2:
        return []
    assigned = _Assigned(KMeans(n_clusters=count, n_init=3, random_state=seed))
    labels = assigned.fit(features)
    return [
        (centre, _terms_of(features, labels == index))
        for index, centre in enumerate(assigned.centres)
    ]


class _Assigned:
    """Frozen k-means; remembers the last features' labels, as every node asks for them."""

    def __init__(self, model: KMeans) -> None:
        self.model = model
        self.last: tuple[Features, NDArray[np.int64]] | None = None

    @property
    def centres(self) -> NDArray[np.float64]:
        return np.asarray(self.model.cluster_centers_, dtype=np.float64)

    def fit(self, features: Features) -> NDArray[np.int64]:
        return np.asarray(self.model.fit(features.meaning).labels_, dtype=np.int64)

    def member(self, clusters: Collection[int]) -> Indicator:
        wanted = sorted(clusters)
        return lambda seen: np.isin(self._labels(seen), wanted).astype(np.float64)

    def _labels(self, seen: Features) -> NDArray[np.int64]:
        if self.last is None or self.last[0] is not seen:
            self.last = (seen, np.asarray(self.model.predict(seen.meaning), dtype=np.int64))
        return self.last[1]
