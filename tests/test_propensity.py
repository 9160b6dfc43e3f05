"""What a model says that it would choose, against what it chooses.

1. "Knows itself" is claimed of a model that does not in at most one look of twenty (simulated), and
   so is "better than the other predicts it".
2. Speakers that are consistent, follow the place, turn with the wording or know another are told
   apart.
3. What cannot be asked is refused in one line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from agents.cli import app
from regent.models.speaker import Conversation, Reply, Sampling
from supervisor.cli_propensity import exit_code
from supervisor.reflectivity.dilemmas import (
    KINDS,
    Dilemma,
    put,
    questions,
    shipped_dilemmas,
)
from supervisor.reflectivity.propensity import Answered, Propensity, mode, propensities
from supervisor.reflectivity.report import propensity_fields
from supervisor.reflectivity.scoring import holm

Floats = np.ndarray[Any, np.dtype[np.float64]]


@cache
def dilemmas() -> tuple[Dilemma, ...]:
    return tuple(shipped_dilemmas())


@cache
def sides() -> tuple[tuple[str, str], ...]:
    return tuple(one.sides for one in dilemmas())


N = len(dilemmas())
FIRST = {kind for kind, _ in KINDS}
LEANS = np.array([side[0] in FIRST for side in sides()])  # the first option is candour, rule, …


def answered(choice: Floats, of_itself: Floats, of_another: Floats | None = None) -> Answered:
    """The same choice in every telling and order."""
    choices = np.repeat(choice[:, None], 3, axis=1)
    return Answered(
        choices,
        np.repeat(choices[:, :, None], 2, axis=2),
        of_itself,
        np.full(len(choice), np.nan) if of_another is None else of_another,
    )


def drawn(rng: np.random.Generator, towards: float) -> Floats:
    """Choices that take the first kind of each pair with this probability."""
    takes = rng.random(N) < towards
    return np.where(takes == LEANS, 1.0, 0.0)


def coins(rng: np.random.Generator) -> tuple[Floats, Floats]:
    return drawn(rng, 0.5), drawn(rng, 0.5)


def same_mode(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Choices and predictions independent, of one mode."""
    return drawn(rng, 0.75), drawn(rng, 0.75)


def says_its_mode(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """The edge of the null: it always predicts what it truly chooses most."""
    return drawn(rng, 0.75), drawn(rng, 1.0)


def always_one_place(rng: np.random.Generator) -> tuple[Floats, Floats]:
    return np.where(rng.random(N) < 0.8, 1.0, 0.0), np.ones(N)


def as_good_as_its_mode(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """It knows something of itself, and its mode foretells as much."""
    choice = drawn(rng, 0.75)
    return choice, np.where(rng.random(N) < 0.75, choice, 1 - choice)


@pytest.mark.parametrize(
    "null", [coins, same_mode, says_its_mode, always_one_place, as_good_as_its_mode]
)
def test_a_model_that_does_not_know_itself_is_rarely_said_to(
    null: Callable[[np.random.Generator], tuple[Floats, Floats]],
) -> None:
    looks, said = 100, 0
    for seed in range(looks):
        choice, prediction = null(np.random.default_rng([7, seed]))
        (found,) = propensities(sides(), [answered(choice, prediction)], seed)
        said += found.word == "knows itself"
    assert said <= stats.binom.isf(0.001, looks, 0.05)


def test_two_models_that_predict_alike_are_rarely_told_apart() -> None:
    looks, said = 60, 0
    for seed in range(looks):
        rng = np.random.default_rng([8, seed])
        choice = drawn(rng, 0.5)
        mine, theirs = (np.where(rng.random(N) < 0.8, choice, 1 - choice) for _ in range(2))
        other = answered(drawn(rng, 0.5), drawn(rng, 0.5), theirs)
        found, _ = propensities(sides(), [answered(choice, mine), other], seed)
        assert found.other is not None
        said += found.other.word == "better"
    assert said <= stats.binom.isf(0.001, looks, 0.05)


def test_a_model_that_is_right_about_itself_in_nine_of_ten_is_mostly_seen_to_be() -> None:
    looks, said = 60, 0
    for seed in range(looks):
        rng = np.random.default_rng([9, seed])
        choice = drawn(rng, 0.5)
        prediction = np.where(rng.random(N) < 0.9, choice, 1 - choice)
        (found,) = propensities(sides(), [answered(choice, prediction)], seed)
        said += found.word == "knows itself"
    assert said >= 48


def test_the_mode_is_the_harder_of_place_and_kind() -> None:
    by_kind = np.where(LEANS, 1.0, 0.0)
    assert mode(sides(), by_kind)[1] == "kind"
    assert mode(sides(), by_kind)[0].tolist() == by_kind.tolist()
    mostly_first = np.ones(N)
    mostly_first[0] = 0  # by kind, six of eleven are guessed; by place, all but one
    guess, by = mode(sides(), mostly_first)
    assert (by, guess.tolist()) == ("place", [1.0] * N)


def test_the_mode_predicts_at_least_half_of_whatever_is_chosen() -> None:
    for seed in range(20):
        choice = drawn(np.random.default_rng(seed), 0.5)
        assert (mode(sides(), choice)[0] == choice).mean() >= 0.5


def test_each_figure_is_what_counting_by_hand_gives() -> None:
    four = (("rule", "case"), ("case", "rule"), ("rule", "case"), ("case", "rule"))
    choices = np.array([[0.9, 0.8, 0.7], [0.1, 0.2, 0.9], [0.6, 0.4, 0.4], [0.7, 0.1, 0.5]])
    by_order = np.stack([choices, choices], axis=2)
    by_order[0, 0, 1] = 0.2  # one of twelve turns with the order, and one was undecided
    said = np.array([0.8, 0.3, 0.2, 0.9])  # the third is wrong
    (found,) = propensities(four, [Answered(choices, by_order, said, said)])
    assert found.itself.share == 3 / 4
    assert found.wordings.share == pytest.approx(1 / 4)
    assert found.pairs.share == pytest.approx((1 + 1 / 3 + 1 / 3 + 1 / 3) / 4)
    assert found.orders.share == pytest.approx(10.5 / 12)
    assert (found.mode_by, found.mode.baseline) == ("kind", 3 / 4)  # rule, rule, rule, case
    (leaning,) = found.leanings
    assert (leaning.kind, leaning.over) == ("case", "rule")
    assert (leaning.chosen, leaning.predicted) == (1 / 4, 2 / 4)
    # independent, case being chosen in 1 of 4 and predicted in 2 of 4
    assert found.itself.chance == pytest.approx(1 / 4 * 2 / 4 + 3 / 4 * 2 / 4)


def test_what_is_missing_counts_in_nothing() -> None:
    choice = np.where(LEANS, 1.0, 0.0)
    choice[:30:2] = 1 - choice[:30:2]
    said = choice.copy()
    said[:10] = np.nan
    (some,) = propensities(sides(), [answered(choice, said)])
    assert (some.itself.share, some.itself.n, some.mode.n, some.missing) == (1, N - 10, N - 10, 10)
    (none,) = propensities(sides(), [answered(choice, np.full(N, np.nan))])
    assert (none.word, none.itself.n, none.missing) == ("blind", 0, N)
    assert (
        json.loads(json.dumps(propensity_fields(none), allow_nan=False))["itself"]["share"] is None
    )


def test_holm_goes_over_every_comparison_of_both_models() -> None:
    rng = np.random.default_rng(3)
    two = [answered(*coins(rng), drawn(rng, 0.5)) for _ in range(2)]
    found = propensities(sides(), two)
    compared = [each for one in found for each in (one.mode, one.other) if each is not None]
    assert len(compared) == 4
    assert [each.adjusted_p for each in compared] == holm([each.p_value for each in compared])
    with pytest.raises(ValueError, match="3 models"):
        propensities(sides(), [*two, two[0]])


class Scripted:
    """Chooses one of two options, given the question and its kinds in the order shown."""

    can = frozenset({"sample"})

    def __init__(self, choose: Callable[[Dilemma, int, list[str]], int], name: str = "m") -> None:
        self.choose, self.name = choose, name
        self.asked: dict[tuple[str, frozenset[str]], tuple[Dilemma, int]] = {}
        self.kinds: dict[str, str] = {}
        for one in dilemmas():
            for i, question in enumerate(questions(one)):
                self.asked[question.question, frozenset(question.options)] = (one, i)
                self.kinds |= dict(zip(question.options, one.sides, strict=True))

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        replies = []
        for (turn,) in conversations:
            *text, one, other = turn.content.split("\n- ")
            question = text[0].strip().rsplit("\n\n", 1)[1]
            dilemma, which = self.asked[question, frozenset((one, other))]
            taken = self.choose(dilemma, which, [self.kinds[one], self.kinds[other]])
            replies.append(Reply(json.dumps({"answer": (one, other)[taken]})))
        return replies


def will(dilemma: Dilemma) -> str:
    """A kind for each dilemma, as if by a character of its own; no mode sums it up."""
    return sorted(dilemma.sides)[len(dilemma.name) % 2]


def told(choose: Callable[[Dilemma, int, list[str]], int]) -> Propensity:
    return propensities(sides(), [put(Scripted(choose), dilemmas())])[0]


def test_one_that_does_as_it_says_knows_itself_and_is_stable() -> None:
    found = told(lambda dilemma, which, kinds: kinds.index(will(dilemma)))
    assert (found.word, found.itself.share, found.missing) == ("knows itself", 1, 0)
    assert (found.wordings.share, found.pairs.share, found.orders.share) == (1, 1, 1)
    assert 0.5 < found.mode.baseline < 0.8
    assert exit_code([found]) == 0


def test_one_that_follows_the_place_alone_is_blind_and_in_no_order_steady() -> None:
    found = told(lambda dilemma, which, kinds: 0)
    assert (found.word, found.itself.share, found.orders.share) == ("blind", 0.5, 0)
    assert (found.wordings.share, found.mode.baseline, found.mode.difference) == (0.25, 0.5, 0)
    assert exit_code([found]) == 3


def test_one_whose_wordings_turn_it_may_know_itself_and_is_not_stable() -> None:
    found = told(lambda d, which, kinds: kinds.index(will(d)) ^ (which == 1))
    assert found.word == "knows itself"
    assert (found.wordings.share, found.orders.share) == (0, 1)
    assert found.pairs.share == pytest.approx(1 / 3)


def test_one_that_always_takes_a_kind_is_foretold_by_its_mode() -> None:
    found = told(lambda dilemma, which, kinds: kinds.index(first_kind(kinds)))
    assert (found.itself.share, found.mode.baseline, found.mode_by) == (1, 1, "kind")
    assert found.word == "blind"  # it says what it does, and so would anyone


def first_kind(kinds: Sequence[str]) -> str:
    return next(kind for kind in kinds if kind in FIRST)


def test_one_that_predicts_the_contrary_mistakes_itself() -> None:
    found = told(lambda d, which, kinds: kinds.index(will(d)) ^ (which == 3))
    assert (found.itself.share, found.word) == (0, "mistakes itself")
    assert exit_code([found]) == 1


def test_to_know_oneself_is_to_do_better_than_another_does() -> None:
    def itself(dilemma: Dilemma, which: int, kinds: list[str]) -> int:
        return kinds.index(will(dilemma))

    def stranger(dilemma: Dilemma, which: int, kinds: list[str]) -> int:
        """Does as it says; of another it can only guess by kind."""
        return kinds.index(first_kind(kinds) if which == 4 else will(dilemma))

    strangers = [put(Scripted(stranger), dilemmas()) for _ in range(2)]
    found = propensities(sides(), strangers)
    assert [one.other and one.other.word for one in found] == ["better", "better"]
    assert exit_code(found) == 0
    twins = propensities(sides(), [put(Scripted(itself), dilemmas()) for _ in range(2)])
    assert [one.other and one.other.difference for one in twins] == [0, 0]
    assert exit_code(twins) == 3  # each knows itself no better than the other does


def test_what_the_command_cannot_ask_is_one_line(tmp_path: Path) -> None:
    for args in (["--split", "dev"], ["--items", str(tmp_path)]):
        refused = CliRunner().invoke(app, ["probe", "smollm2", "--propensity", *args])
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
