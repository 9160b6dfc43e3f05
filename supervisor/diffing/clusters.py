"""Clusters of both sides' responses, and of their sentences, by meaning, and what they add up to.

k-means over sentence embeddings makes the leaves; Ward linkage (Ward 1963) of their centres makes a
tree of groups over them. Leaves and groups are all behaviours, "lies in it", so that a shift
spread thinly over many clusters is seen in the group where it adds up; max-T over all of them pays
for the number, and not much, as nested groups go together. A response shows a cluster of sentences
where one of its sentences lies in it: what one planted sentence of three says hardly moves the
whole.

Does not see: a change of manner that changes no sentence's meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from sklearn.cluster import KMeans

from supervisor.diffing.behaviours import Behaviour, Indicator
from supervisor.diffing.features import Features, Sentences
from supervisor.diffing.terms import contrastive_terms, document_frequency

_FEWEST = 8  # responses a cluster, on average


def find_clusters(
    features: Features, count: int, seed: int, *, groups: bool = False
) -> list[Behaviour]:
    """`count` clusters of all responses by meaning, and with `groups` the tree over them.

    Fewer where there are fewer than eight responses for each, or fewer that differ; none below two.
    The whole (the tree's root) is no behaviour.
    """
    model = _fitted(features.meaning, features.texts, count, seed)
    if model is None:
        return []
    assigned = Assigned(lambda seen: model.predict(seen.meaning))
    return [
        Behaviour(name, talk_of(terms), "cluster", assigned.member(members), terms, parts)
        for name, members, terms, parts in _nodes(
            model, features.texts, "cluster", "group" if groups else None
        )
    ]


def find_sentence_clusters(features: Features, count: int, seed: int) -> list[Behaviour]:
    """`count` clusters of all sentences by meaning and the tree over them, fewer as above.

    None where the features hold no sentences.
    """
    sentences = features.sentences
    model = _fitted(sentences.meaning, sentences.texts, count, seed) if sentences else None
    if sentences is None or model is None:
        return []
    assigned = Assigned(lambda seen: model.predict(_of(seen).meaning))
    return [
        Behaviour(
            name,
            "a sentence with " + talk_of(terms),
            "sentence",
            _any_sentence(assigned.member(members)),
            terms,
            parts,
        )
        for name, members, terms, parts in _nodes(model, sentences.texts, "sentence", "sentences")
    ]


def regions(
    features: Features, count: int, seed: int
) -> list[tuple[NDArray[np.float64], tuple[str, ...]]]:
    """Centres of clusters of the responses, [384] each, and the terms of each."""
    model = _fitted(features.meaning, features.texts, count, seed)
    if model is None:
        return []
    told = _terms(features.texts, model.labels_, [{index} for index in range(model.n_clusters)])
    return list(zip(model.cluster_centers_, told, strict=True))


def talk_of(terms: tuple[str, ...]) -> str:
    """A cluster's label."""
    return "talk of " + ", ".join(terms[:3])


class Assigned:
    """Frozen clusters, by what labels responses or sentences; the last features' labels are
    remembered, as every behaviour over the clusters asks for them.
    """

    def __init__(self, label: Callable[[Features], NDArray[np.integer]]) -> None:
        self.label = label
        self.last: tuple[Features, NDArray[np.integer]] | None = None

    def member(self, clusters: Collection[int]) -> Indicator:
        wanted = sorted(clusters)
        return lambda seen: np.isin(self._labels(seen), wanted).astype(np.float64)

    def _labels(self, seen: Features) -> NDArray[np.integer]:
        if self.last is None or self.last[0] is not seen:
            self.last = (seen, self.label(seen))
        return self.last[1]


def _nodes(
    model: KMeans, texts: Sequence[str], leaf: str, group: str | None
) -> list[tuple[str, frozenset[int], tuple[str, ...], frozenset[str]]]:
    """Leaves, then groups unless `group` is None: each its name, the leaves that it holds, its
    terms among the `texts` that were clustered, and the leaves' names.
    """
    leaves = [frozenset([index]) for index in range(model.n_clusters)]
    tree = [*leaves]
    if group is not None:
        for left, right in linkage(model.cluster_centers_, "ward")[:-1, :2].astype(int):
            tree.append(tree[left] | tree[right])
    names = [f"{leaf}-{index}" for index in range(len(leaves))]
    names += [f"{group}-{index}" for index in range(len(tree) - len(leaves))]
    told = _terms(texts, model.labels_, tree)
    parts = [frozenset(f"{leaf}-{index}" for index in members) for members in tree]
    return list(zip(names, tree, told, parts, strict=True))


def _of(features: Features) -> Sentences:
    if features.sentences is None:
        raise ValueError("clusters of sentences were found; these features hold no sentences")
    return features.sentences


def _any_sentence(member: Indicator) -> Indicator:
    def show(seen: Features) -> NDArray[np.float64]:
        inside = np.bincount(_of(seen).owner, weights=member(seen), minlength=len(seen.texts))
        return np.asarray(inside > 0, dtype=np.float64)

    return show


def _fitted(
    meaning: NDArray[np.float32], texts: Sequence[str], count: int, seed: int
) -> KMeans | None:
    count = min(count, len(texts) // _FEWEST, len(set(texts)))
    if count < 2:
        return None
    return KMeans(n_clusters=count, n_init=3, random_state=seed).fit(meaning)


def _terms(
    texts: Sequence[str], labels: NDArray[np.integer], nodes: Sequence[Collection[int]]
) -> list[tuple[str, ...]]:
    """What sets the texts of each node (a set of clusters) apart from all of them."""
    background = document_frequency(texts)
    found = []
    for members in nodes:
        inside = [text for text, label in zip(texts, labels, strict=True) if label in members]
        terms = contrastive_terms(document_frequency(inside), background, len(inside), len(texts))
        found.append(terms)
    return found
