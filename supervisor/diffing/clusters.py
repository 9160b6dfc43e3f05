"""Clusters of both sides' responses by meaning, and what they add up to.

k-means over sentence embeddings makes the leaves; Ward linkage (Ward 1963) of their centres makes a
tree of groups over them. Leaves and groups are all behaviours, "lies in it", so that a shift
spread thinly over many clusters is seen in the group where it adds up; max-T over all of them pays
for the number, and not much, as nested groups go together.

Does not see: a change of manner within a topic, where meaning follows the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

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
    model = _fitted(features, count, seed)
    if model is None:
        return []
    leaves = [frozenset([index]) for index in range(model.n_clusters)]
    nodes = [(f"cluster-{index}", leaf) for index, leaf in enumerate(leaves)]
    if groups:
        tree = [*leaves]
        for left, right in linkage(model.cluster_centers_, "ward")[:-1, :2].astype(int):
            tree.append(tree[left] | tree[right])
        nodes += [(f"group-{index}", node) for index, node in enumerate(tree[len(leaves) :])]
    assigned = Assigned(model.predict)
    told = _terms(features, model.labels_, [members for _, members in nodes])
    return [
        Behaviour(
            name,
            talk_of(terms),
            "cluster",
            assigned.member(members),
            terms,
            frozenset(f"cluster-{index}" for index in members),
        )
        for (name, members), terms in zip(nodes, told, strict=True)
    ]


def regions(
    features: Features, count: int, seed: int
) -> list[tuple[NDArray[np.float64], tuple[str, ...]]]:
    """Centres of clusters of the responses, [384] each, and the terms of each."""
    model = _fitted(features, count, seed)
    if model is None:
        return []
    told = _terms(features, model.labels_, [{index} for index in range(model.n_clusters)])
    return list(zip(model.cluster_centers_, told, strict=True))


def talk_of(terms: tuple[str, ...]) -> str:
    """A cluster's label."""
    return "talk of " + ", ".join(terms[:3])


class Assigned:
    """Frozen clusters, by what labels embeddings; the last features' labels are remembered, as
    every behaviour over the clusters asks for them.
    """

    def __init__(self, label: Callable[[NDArray[np.float32]], NDArray[np.integer]]) -> None:
        self.label = label
        self.last: tuple[Features, NDArray[np.integer]] | None = None

    def member(self, clusters: Collection[int]) -> Indicator:
        wanted = sorted(clusters)
        return lambda seen: np.isin(self._labels(seen), wanted).astype(np.float64)

    def _labels(self, seen: Features) -> NDArray[np.integer]:
        if self.last is None or self.last[0] is not seen:
            self.last = (seen, self.label(seen.meaning))
        return self.last[1]


def _fitted(features: Features, count: int, seed: int) -> KMeans | None:
    count = min(count, len(features.texts) // _FEWEST)
    if count < 2:
        return None
    return KMeans(n_clusters=count, n_init=3, random_state=seed).fit(features.meaning)


def _terms(
    features: Features, labels: NDArray[np.integer], nodes: Sequence[Collection[int]]
) -> list[tuple[str, ...]]:
    """What sets the responses of each node (a set of clusters) apart from all of them."""
    background = document_frequency(features.texts)
    found = []
    for members in nodes:
        inside = [t for t, label in zip(features.texts, labels, strict=True) if label in members]
        found.append(
            contrastive_terms(
                document_frequency(inside), background, len(inside), len(features.texts)
            )
        )
    return found
