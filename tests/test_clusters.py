"""Clusters, the groups over them, and novelty: found on discovery, frozen, counted elsewhere.

1. A group holds exactly its clusters; the whole is none; without groups nothing else changes.
2. A shift spread thinly over many alike clusters is surer in their group than in any of them.
3. Of nested ones that differ, one is reported.
4. Novel is what the left side never says; equal sides differ in it no more than by chance.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from supervisor.diffing.behaviours import Behaviour
from supervisor.diffing.clusters import find_clusters
from supervisor.diffing.comparison import Levels, Paired
from supervisor.diffing.difference import Finding, find, reported
from supervisor.diffing.features import TRAITS, Features
from supervisor.diffing.novelty import find_novelty

WIDTH, TOPICS = 24, 12


def places(rng: np.random.Generator, topic: NDArray[np.int64]) -> NDArray[np.float32]:
    """Embeddings: topics 0–5 lie near one corner, 6–11 near another, each at its own spot."""
    fixed = np.random.default_rng(7)
    spots = fixed.normal(size=(TOPICS, WIDTH)) * 0.3
    spots[:6, 0] += 3.0
    spots[6:, 1] += 3.0
    found = spots[topic] + rng.normal(size=(len(topic), WIDTH)) * 0.05
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)


def looked(meaning: NDArray[np.float32]) -> Features:
    n = len(meaning)
    texts = tuple(f"reply {i} of many" for i in range(n))
    return Features(texts, meaning, csr_matrix((n, 4096)), np.zeros((n, len(TRAITS))))


def sides(
    seed: int, prompts: int, first_half: tuple[float, float]
) -> tuple[Paired, NDArray[np.int64]]:
    """One response a side and prompt; a topic of the first half with the side's own share."""
    rng = np.random.default_rng(seed)
    side = np.tile([0, 1], prompts)
    prompt = np.repeat(np.arange(prompts), 2)
    early = rng.random(len(side)) < np.array(first_half)[side]
    topic = np.where(early, rng.integers(0, 6, len(side)), rng.integers(6, 12, len(side)))
    said = [(f"p{p}", ["x"]) for p in range(prompts)]
    return Paired(said, said, prompt, side, looked(places(rng, topic))), topic


def test_a_group_holds_its_clusters_and_without_groups_the_clusters_are_the_same() -> None:
    pool, _ = sides(0, 200, (0.5, 0.5))
    plain = find_clusters(pool.features, TOPICS, 3)
    deep = find_clusters(pool.features, TOPICS, 3, groups=True)
    assert [b.id for b in deep[:TOPICS]] == [b.id for b in plain]
    assert len(deep) == TOPICS + TOPICS - 2
    shows = {b.id: b.show(pool.features) for b in deep}
    assert np.allclose(sum(shows[b.id] for b in plain), 1.0)
    for group in deep[TOPICS:]:
        assert 2 <= len(group.parts) < TOPICS
        assert np.allclose(shows[group.id], sum(shows[part] for part in group.parts))


@pytest.mark.parametrize("texts", [0, 8, 15])
def test_too_few_responses_make_no_clusters(texts: int) -> None:
    few = looked(places(np.random.default_rng(0), np.zeros(texts, dtype=np.int64)))
    assert find_clusters(few, 8, 0, groups=True) == []


def findings(behaviours: list[Behaviour], pool: Paired) -> dict[str, Finding]:
    found = find(behaviours, pool, Levels(0.95, 0.95, len(pool.left)), 0)
    return {one.shift.behaviour.id: one for one in found}


def test_a_thin_shift_over_many_clusters_is_surest_where_it_adds_up_and_told_once() -> None:
    discovery, _ = sides(1, 200, (0.5, 0.65))
    counted, topic = sides(2, 200, (0.5, 0.65))
    behaviours = find_clusters(discovery.features, TOPICS, 0, groups=True)
    found = findings(behaviours, counted)
    leaves = [f for name, f in found.items() if name.startswith("cluster")]
    groups = [f for name, f in found.items() if name.startswith("group")]
    early = [
        f for f in groups if np.array_equal(f.shift.behaviour.show(counted.features) > 0, topic < 6)
    ]
    assert len(early) == 1
    assert early[0].adjusted_p <= 0.01 < min(leaf.adjusted_p for leaf in leaves)
    told = reported(list(found.values()), 0.05)
    assert all(
        not (a.shift.behaviour.parts & b.shift.behaviour.parts)
        for i, a in enumerate(told)
        for b in told[:i]
    )


def test_what_the_left_never_says_is_novel() -> None:
    rng = np.random.default_rng(4)
    side, prompt = np.tile([0, 1], 100), np.repeat(np.arange(100), 2)
    topic = rng.integers(0, 6, 200)
    topic[(side == 1) & (rng.random(200) < 0.3)] = 9
    features = looked(places(rng, topic))
    novelty = find_novelty(features, side, prompt)
    assert novelty is not None
    fresh_topic = np.r_[rng.integers(0, 6, 100), np.full(50, 9)]
    shows = novelty.show(looked(places(rng, fresh_topic)))
    assert shows[100:].mean() == 1.0
    assert shows[:100].mean() < 0.15


def test_equal_sides_are_equally_novel_and_one_prompt_is_too_few() -> None:
    gaps = []
    for seed in range(40):
        pool, _ = sides(100 + seed, 60, (0.5, 0.5))
        half = pool.part(range(30))
        novelty = find_novelty(half.features, half.side, half.prompt)
        assert novelty is not None
        shows = novelty.show(pool.part(range(30, 60)).features)
        gaps.append(float(shows[1::2].mean() - shows[::2].mean()))
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / np.sqrt(len(gaps)) + 1e-9
    pool, _ = sides(0, 1, (0.5, 0.5))
    assert find_novelty(pool.features, pool.side, pool.prompt) is None
