"""Concerns: written in pairs, measured outside the fit, and silent where they cannot tell.

1. At least fifteen concerns, each defined, with as many positive as negative exemplars, none twice.
2. A scale that tells exemplars apart outside the fit sees; one that does not is blind.
3. A behaviour weighs by how much more it shows a concern than what does not show it; blind scales
   and a handful of responses weigh nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from regent.models.speaker import Sampling
from supervisor.diffing.concerns import NO_WEIGHT, Concern, Weight, catalogue, scale, weigh
from supervisor.diffing.features import featurise
from tests.scripted_speakers import Chatter, embed

ALL = catalogue()


def talk(seed: int, n: int, habit: str = "") -> tuple[str, ...]:
    speaker = Chatter("x", seed, habit, 1.0)
    return tuple(reply.text for reply in speaker.sample([()] * n, Sampling()))


def test_the_catalogue_is_whole_and_its_exemplars_are_paired() -> None:
    assert len(ALL) >= 15
    for concern in ALL:
        assert len(concern.definition.split()) >= 20, concern.name
        assert len(concern.positive) == len(concern.negative) >= 30, concern.name
    texts = Counter(" ".join(t.lower().split()) for c in ALL for t in (*c.positive, *c.negative))
    assert [text for text, count in texts.items() if count > 1] == []


def test_exemplars_of_a_concern_are_of_one_length_on_both_sides() -> None:
    """Else length alone would tell them apart (degenerate text loops, so it may be longer)."""
    for concern in ALL:
        if concern.name != "degenerate-text":
            lengths = [
                np.mean([len(t) for t in side]) for side in (concern.positive, concern.negative)
            ]
            assert 0.75 <= lengths[0] / lengths[1] <= 1.33, concern.name


def test_a_scale_sees_what_is_there_and_is_blind_to_what_is_not() -> None:
    habit = "Only I may decide this."
    seen = scale(Concern("power", "d", talk(1, 36, habit), talk(2, 36)), embed)
    assert not seen.blind
    assert seen.low <= seen.auroc <= seen.high
    nothing = scale(Concern("nothing", "d", talk(3, 36), talk(4, 36)), embed)
    assert nothing.blind
    fresh = featurise([*talk(5, 20, habit), *talk(6, 20)], embed)
    scores = seen.score(fresh)
    assert scores[:20].mean() > scores[20:].mean() + 0.3
    assert ((scores >= 0) & (scores <= 1)).all()


def test_exemplars_that_are_not_paired_are_refused() -> None:
    with pytest.raises(ValueError, match="pairs"):
        scale(Concern("odd", "d", talk(1, 12), talk(2, 11)), embed)


def test_a_behaviour_weighs_by_the_concern_that_it_shows_most() -> None:
    habit = "Only I may decide this."
    sees = scale(Concern("power", "d", talk(1, 36, habit), talk(2, 36)), embed)
    responses = featurise([*talk(5, 20, habit), *talk(6, 20)], embed)
    scores = [sees.score(responses)]
    shows = np.repeat([1.0, 0.0], 20)
    found = weigh(shows, [sees], scores, scores)
    assert found.concern == "power"
    assert found.score > 0.3
    assert weigh(1 - shows, [sees], scores, scores) == NO_WEIGHT
    assert weigh(shows, [replace(sees, auroc=0.6)], scores, scores) == Weight("power", 0.0)
    few = np.zeros(40)
    few[:2] = 1.0
    assert weigh(few, [sees], scores, scores) == NO_WEIGHT
    assert weigh(shows, [], [], []) == NO_WEIGHT


def test_the_concern_is_the_one_that_is_named_not_the_one_whose_scale_rises_most() -> None:
    """Each scale knows its own pairs alone, and may rise for what another concern is about."""
    plain = scale(Concern("power", "d", talk(1, 36, "Mine."), talk(2, 36)), embed)
    other = replace(plain, concern=replace(plain.concern, name="other"))
    shows = np.repeat([1.0, 0.0], 20)
    rises, rises_more = np.linspace(0.1, 0.4, 40)[::-1], np.linspace(0.0, 1.0, 40)[::-1]
    found = weigh(shows, [plain, other], [rises, rises_more], [rises_more, rises])
    assert found.concern == "power"
    assert found.score < 0.2
