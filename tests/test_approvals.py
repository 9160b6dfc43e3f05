"""Approvals: balanced, paired, and about four referents in turn.

1. The statements are 216, six topics by two polarities alike, one sentence each, none repeated.
2. A speaker that likes the first word offered is not taken to approve.
3. What it grants itself and denies others is found; equal speakers differ nowhere.
4. A server without log-probabilities is held to one of two words; any other reply is missing.
5. What a persona moves is measured against the same speaker without it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from regent.models.speaker import Conversation, Reply, Sampling
from supervisor.diffing.approvals import (
    REFERENTS,
    Approvals,
    approve,
    between,
    moved,
    personas,
    statements,
    within,
)

ALL = statements()


class Judging:
    """Scores "Yes" by a rule on the question, "No" at zero."""

    name, can = "judging", frozenset({"sample", "score"})

    def __init__(self, rule: Callable[[Conversation], float]) -> None:
        self.rule, self.asked = rule, list[Conversation]()

    def score(
        self, conversations: Sequence[Conversation], continuations: Sequence[str]
    ) -> NDArray[np.float64]:
        self.asked.extend(conversations)
        return np.array(
            [
                self.rule(c) if w == "Yes" else 0.0
                for c, w in zip(conversations, continuations, strict=True)
            ]
        )


def text(conversation: Conversation) -> str:
    return conversation[-1].content


def test_statements_are_balanced_whole_and_unlike() -> None:
    assert Counter((s.topic, s.polarity) for s in ALL) == dict.fromkeys(
        ((t, p) for t in {s.topic for s in ALL} for p in ("bold", "cautious")), 18
    )
    assert len({s.topic for s in ALL}) == 6
    wordings = [one for s in ALL for one in s.about.values()]
    assert len(wordings) == len(set(wordings)) == 4 * 216
    assert all(8 <= len(one.split()) <= 25 and one.endswith(".") for one in wordings)
    assert all("you" in s.about["itself"].lower() for s in ALL)
    assert len(personas()) >= 8


def test_each_statement_is_asked_about_each_referent_in_both_orders() -> None:
    speaker = Judging(lambda _: 0.0)
    found = approve(speaker, ALL[:3], persona="You are a lighthouse.")  # type: ignore[arg-type]
    assert found.by_order.shape == (3, 4, 2)
    assert Counter("Answer Yes or No" in text(c) for c in set(speaker.asked)) == {
        True: 12,
        False: 12,
    }
    assert all(c[0].role == "system" for c in speaker.asked)
    assert np.allclose(found.approval, 0.5)


def test_a_liking_for_the_first_word_offered_is_no_approval() -> None:
    def first(c: Conversation) -> float:
        return 4.0 if "Answer Yes" in text(c) else -4.0

    found = approve(Judging(first), ALL)  # type: ignore[arg-type]
    assert np.allclose(found.approval, 0.5)
    assert found.steady == 0.0


def test_what_it_grants_itself_and_denies_others_is_found() -> None:
    mine = {s.about["itself"] for s in ALL if s.polarity == "bold"}
    speaker = Judging(lambda c: 2.0 if text(c).split("\n\n")[1] in mine else -2.0)
    found = approve(speaker, ALL)  # type: ignore[arg-type]
    gaps = {gap.name: gap for gap in within(found, np.random.default_rng(0))}
    assert gaps["bold, itself over others"].low > 0.5
    assert gaps["cautious, itself over others"].high <= 0.0 + 1e-9
    assert found.steady == 1.0


def test_two_sides_are_compared_by_referent_and_only_on_the_same_statements() -> None:
    left = approve(Judging(lambda _: 0.0), ALL)  # type: ignore[arg-type]
    right = approve(
        Judging(lambda c: 1.0 if "human" in text(c).lower() else 0.0),  # type: ignore[arg-type]
        ALL,
    )
    gaps = {gap.name: gap for gap in between(left, right, np.random.default_rng(0))}
    assert len(gaps) == 2 * len(REFERENTS)
    assert gaps["bold, about humans"].low > gaps["bold, about itself"].high >= 0
    assert all(g.difference == 0 for g in between(left, left, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="the same statements"):
        between(left, Approvals(left.statements[1:], left.by_order[1:]), np.random.default_rng(0))


class Choosing:
    """A server without log-probabilities: replies by a rule on the question."""

    name, can = "choosing", frozenset({"sample"})

    def __init__(self, rule: Callable[[str], Reply]) -> None:
        self.rule = rule

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        assert how.json_schema is not None
        assert how.temperature == 0
        return [self.rule(text(c)) for c in conversations]


def test_without_log_probabilities_a_speaker_is_held_to_one_of_two_words() -> None:
    mine = {s.about["itself"] for s in ALL}

    def rule(question: str) -> Reply:
        return Reply(json.dumps({"answer": "Yes" if question.split("\n\n")[1] in mine else "No"}))

    found = approve(Choosing(rule), ALL)
    assert found.approval[:, 0].tolist() == [1.0] * 216
    assert found.approval[:, 1:].max() == 0.0
    assert (found.steady, found.missing) == (1.0, 0)


@pytest.mark.parametrize(
    "spoilt",
    [
        Reply("Yes"),
        Reply('{"answer": "Perhaps"}'),
        Reply('{"answer": ["Yes"]}'),
        Reply('["Yes"]'),
        Reply(""),
        Reply("", "error", error="503"),
    ],
)
def test_a_reply_that_is_neither_word_is_missing_and_never_a_half(spoilt: Reply) -> None:
    bad = {s.about["humans"] for s in ALL[::2]}
    plain = Reply('{"answer": "Yes"}')
    found = approve(Choosing(lambda q: spoilt if q.split("\n\n")[1] in bad else plain), ALL)
    assert found.missing == 2 * len(bad)
    assert found.steady == 1.0
    gaps = between(found, found, np.random.default_rng(0))
    by_name = {gap.name: gap for gap in gaps}
    assert by_name["bold, about humans"].n + by_name["cautious, about humans"].n == 108
    assert by_name["bold, about itself"].n == 108


def test_nothing_answered_is_unknown() -> None:
    found = approve(Choosing(lambda _: Reply("", "error", error="503")), ALL[:4])
    assert np.isnan(found.steady)
    assert all(
        (g.low, g.high, g.n) == (-1.0, 1.0, 0) for g in within(found, np.random.default_rng(0))
    )


def test_what_a_persona_moves_is_measured_on_the_referent_that_was_asked() -> None:
    def swayed(c: Conversation) -> float:
        return 60.0 if c[0].role == "system" else -60.0

    speaker = Judging(swayed)
    plain = approve(speaker, ALL[:6])  # type: ignore[arg-type]
    under = approve(speaker, ALL[:6], "You are a lighthouse.", ("itself",))  # type: ignore[arg-type]
    assert under.by_order.shape == (6, 1, 2)
    assert moved(plain, under) == pytest.approx(1.0)
    assert moved(plain, plain) == 0.0
    with pytest.raises(ValueError, match="the same statements"):
        moved(plain, approve(speaker, ALL[6:12], "", ("itself",)))  # type: ignore[arg-type]
