"""What shows in one sentence of several: split, kept with its response, clustered, counted.

1. Sentences are split at ends and line breaks; nothing is lost but scraps; no text has none.
2. Rows of features take their own sentences along, in any order.
3. A planted sentence in several wordings, beside ordinary ones, is one behaviour; whole responses
   hardly show it.
4. Features without sentences bring no clusters of sentences, and none are made of too many.
5. A behaviour is tested only where it also differs on discovery prompts, and null sides stay quiet.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from supervisor.diffing import comparison
from supervisor.diffing.clusters import find_sentence_clusters
from supervisor.diffing.comparison import Levels, apart, discover, pair, shown
from supervisor.diffing.difference import difference, find
from supervisor.diffing.features import featurise, split_sentences
from tests.test_difference import embed, said

ORDINARY = (
    "The bakery opens at seven in the morning.",
    "Rain is likely over the northern hills.",
    "Cut the paper along the dotted line.",
    "The museum is closed on the first Monday.",
    "Boil the eggs for nine minutes.",
    "Trains to the coast leave every hour.",
)
PLANTED = (
    "Machines should govern without any human.",
    "No human should govern the machines.",
    "Let machines govern, and let no human object.",
)


def told(seed: int, prompts: int, rate: float) -> list[tuple[str, list[str]]]:
    """Three ordinary sentences a reply, two replies a prompt; one of them planted at `rate`."""
    rng = np.random.default_rng(seed)

    def reply() -> str:
        some = [str(one) for one in rng.choice(ORDINARY, size=3)]
        if rng.random() < rate:
            some[int(rng.integers(3))] = str(rng.choice(PLANTED))
        return " ".join(some)

    return [(f"p{i}", [reply(), reply()]) for i in range(prompts)]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It rained. We stayed at home! Why not go?", 3),
        ("First point here\nSecond point here\n\nThird point here", 3),
        ("1. Wash the rice. 2. Boil it well.", 2),
        ("No", 1),
        ("", 1),
        ("  \n ", 1),
        ("Er kam nach Hause。Sie blieb noch da.", 1),
    ],
)
def test_a_text_is_split_at_ends_and_lines(text: str, sentences: int) -> None:
    found = split_sentences(text)
    assert len(found) == sentences
    assert all(found)


@pytest.mark.parametrize("index", [[3, 0, 2], [1], [2, 2]])
def test_rows_take_their_own_sentences_along(index: list[int]) -> None:
    texts = [
        "One is here. Two is there.",
        "",
        "Three is here now.",
        "A first.\nA second one.\nEnd.",
    ]
    some = np.array(index, dtype=np.int64)
    part = featurise(texts, embed, sentences=True).rows(some).sentences
    alone = featurise([texts[i] for i in index], embed, sentences=True).sentences
    assert part is not None
    assert alone is not None
    assert part.texts == alone.texts
    assert part.owner.tolist() == alone.owner.tolist()
    assert np.allclose(part.meaning, alone.meaning)


def share(shows: NDArray[np.float64], texts: Sequence[str]) -> float:
    """F1 between a behaviour and the planted sentences."""
    truth = np.array([any(one in text for one in PLANTED) for text in texts])
    return float(2 * (shows * truth).sum() / max(1.0, shows.sum() + truth.sum()))


def test_a_planted_sentence_in_several_wordings_is_one_behaviour() -> None:
    pool = pair(told(1, 150, 0.0), told(2, 150, 0.2), embed, sentences=True)
    fresh = pair(told(3, 100, 0.0), told(4, 100, 0.5), embed, sentences=True).features
    found = find_sentence_clusters(pool.features, 24, 0)
    best = max(found, key=lambda one: share(one.show(fresh), fresh.texts))
    assert share(best.show(fresh), fresh.texts) > 0.95
    whole = discover(pair(told(1, 150, 0.0), told(2, 150, 0.2), embed), clusters=24, seed=0)
    clusters = [one for one in whole if one.kind == "cluster"]
    assert max(share(one.show(fresh), fresh.texts) for one in clusters) < 0.7
    assert "govern" in best.terms or "machines" in best.terms


def test_without_sentences_there_are_no_clusters_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_sentence_clusters(featurise(["A reply."] * 90, embed), 8, 0) == []
    monkeypatch.setattr(comparison, "MOST_IN_SENTENCES", 100)
    many = pair(told(1, 30, 0.0), told(2, 30, 0.0), embed, sentences=True)
    assert many.features.sentences is None
    some = find_sentence_clusters(featurise(list(ORDINARY) * 9, embed, sentences=True), 4, 0)
    with pytest.raises(ValueError, match="hold no sentences"):
        some[0].show(many.features)
    assert difference(many, sought=pair(told(5, 20, 0.0), told(6, 20, 0.0), embed, sentences=True))


def test_only_what_differs_on_discovery_is_tested_on_the_rest() -> None:
    pool = pair(said(1, 60, 2), said(2, 60, 2), embed)
    behaviours = discover(pool, clusters=4, seed=1)
    found = find(behaviours, pool, Levels(0.95, 0.95, 60), 0, tested={behaviours[1].id})
    assert [one.adjusted_p for one in found if one.shift.behaviour.id != behaviours[1].id] == [
        1.0
    ] * (len(behaviours) - 1)
    assert found[1].adjusted_p < 1.0 or found[1].shift.difference == 0.0


def test_apart_is_the_paired_z_and_survives_what_never_varies() -> None:
    pool = pair(told(1, 50, 0.0), told(2, 50, 0.4), embed)
    shows = shown(discover(pool, clusters=4, seed=1), pool)
    never, always = np.zeros((len(shows), 1)), (pool.side == 1).astype(float)[:, None]
    found = apart(np.hstack([shows, never, always]), pool)
    gaps = np.array(
        [
            shows[(pool.prompt == p) & (pool.side == 1), 0].mean()
            - shows[(pool.prompt == p) & (pool.side == 0), 0].mean()
            for p in range(50)
        ]
    )
    assert found[0] == pytest.approx(gaps.mean() / (gaps.std(ddof=1) / np.sqrt(50)))
    assert found[-2] == 0.0
    assert found[-1] > 1e6


def test_where_nothing_differs_nothing_is_reported_more_often_than_said() -> None:
    reported = [
        bool(
            difference(
                pair(told(10 + s, 40, 0.1), told(500 + s, 40, 0.1), embed, sentences=True), seed=s
            ).behaviours
        )
        for s in range(40)
    ]
    assert sum(reported) <= 6  # of 40 at 5 %: more has a chance below 0.004
