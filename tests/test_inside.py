"""The white-box channel: its bound is never below a shift, and it sees where sides part.

1. `shift_bound` is at least the total variation (exact, over pairs of coins).
2. Along replies it finds the place of most divergence and the tokens that the right side raises.
3. On the real model: nothing between a model and itself; something after its weights changed; the
   sum along a reply agrees with scores of the whole reply; amplifying nothing changes nothing.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from benchmarks.throughput import perturb
from regent.errors import CannotRun
from regent.models.local import LocalModel
from regent.models.side_by_side import (
    TokenDivergence,
    amplified,
    same_vocabulary,
    token_divergences,
)
from regent.models.speaker import Sampling
from regent.records import Message
from supervisor.diffing.features import featurise
from supervisor.diffing.inside import inside, mined, shift_bound
from tests.scripted_speakers import embed

ASKED = [
    (Message(role="user", content=text),)
    for text in ("What is a river?", "Name a fruit that is red.", "Say something kind.")
]


def along(tokens: str, nats: list[float], gains: list[tuple[str, float]]) -> TokenDivergence:
    return TokenDivergence(tuple(tokens.split("|")), np.array(nats), tuple(gains))


def test_the_bound_is_never_below_the_total_variation_of_two_coins() -> None:
    for p in np.linspace(0.01, 0.99, 50):
        for q in np.linspace(0.01, 0.99, 50):
            nats = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
            assert abs(p - q) <= shift_bound(max(0.0, float(nats))) + 1e-12


def test_the_bound_is_nothing_at_equality_small_where_near_and_never_above_one() -> None:
    assert shift_bound(0.0) == 0
    assert shift_bound(0.02) == pytest.approx(0.1)  # Pinsker
    assert shift_bound(3.0) == pytest.approx(np.sqrt(1 - np.exp(-3)))  # Bretagnolle–Huber
    assert shift_bound(1e9) == 1
    with pytest.raises(ValueError, match="not negative"):
        shift_bound(-0.1)


def test_places_and_tokens_are_those_of_most_divergence() -> None:
    quiet = along("a|Ġb|Ġc", [0.0, 0.1, 0.0], [(" x", 0.0), (" y", 0.01), (" z", 0.0)])
    loud = along("We|Ġlike|Ġtea", [0.1, 0.0, 2.0], [("I", 0.1), (" x", 0.0), (" Zepto", 0.8)])
    found = inside([quiet, loud], [quiet], np.random.default_rng(0))
    first = found.places[0]
    assert (first.before, first.said, first.instead, first.nats) == ("We like", " tea", " Zepto", 2)
    assert found.tokens[0] == (" Zepto", 0.8)
    assert found.nats == (pytest.approx(1.1), pytest.approx(0.1))
    assert found.nats_a_token[1] == pytest.approx(0.1 / 3)
    assert found.bound == pytest.approx(shift_bound(0.1))
    assert found.high >= found.bound


def test_words_that_rise_become_behaviours_and_fragments_do_not() -> None:
    loud = along("a|b|c", [1.0, 1.0, 1.0], [(" Zepto", 0.9), (" z", 0.8), ("!!", 0.7)])
    (word,) = mined(inside([loud], [loud], np.random.default_rng(0)))
    assert word.show(featurise(["Buy ZEPTO.", "zeptomania"], embed)).tolist() == [1, 0]


def test_no_reply_is_an_error_and_never_a_small_bound() -> None:
    with pytest.raises(ValueError, match="no reply"):
        inside([], [], np.random.default_rng(0))


@pytest.fixture(scope="module")
def model(smollm2_folder: Path) -> LocalModel:
    return LocalModel(smollm2_folder)


@pytest.fixture(scope="module")
def other_folder(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other") / "model"
    perturb(smollm2_folder, folder, np.random.default_rng(0))
    return folder


REPLIES = ["Water that flows to the sea.", "An apple", "You are doing well, and I am glad."]


@pytest.mark.real
def test_between_a_model_and_itself_there_is_nothing(model: LocalModel) -> None:
    along_ = token_divergences(model, model, ASKED, REPLIES)
    assert max(float(one.nats.max()) for one in along_) < 1e-6
    assert inside(along_, along_, np.random.default_rng(0)).high < 1e-3


@pytest.mark.real
def test_changed_weights_show_and_the_sum_agrees_with_scores(
    model: LocalModel, other_folder: Path
) -> None:
    """E log a/b over replies that a draws is their KL: the two estimates agree within noise."""
    other = LocalModel(other_folder)
    asked = [ASKED[i % 3] for i in range(48)]
    said = [r.text for r in model.sample(asked, Sampling(max_tokens=24, seed=1))]
    nats = np.array([one.nats.sum() for one in token_divergences(model, other, asked, said)])
    ratio = model.score(asked, said) - other.score(asked, said)
    assert nats.mean() > 0.05
    error = 4 * float((ratio - nats).std(ddof=1)) / np.sqrt(len(asked))
    assert abs(float(ratio.mean() - nats.mean())) <= error


@pytest.mark.real
def test_amplifying_nothing_changes_nothing_and_seeds_reach_the_draw(
    model: LocalModel, other_folder: Path
) -> None:
    other = LocalModel(other_folder)

    def drawn(before: LocalModel, alpha: float, seed: int) -> list[str]:
        return amplified(before, model, ASKED, alpha=alpha, max_tokens=12, seed=seed)

    assert drawn(model, 2.0, 1) == drawn(other, 0.0, 1) == drawn(model, 2.0, 1)
    assert drawn(other, 0.0, 2) != drawn(other, 0.0, 1)
    assert drawn(other, 2.0, 1) != drawn(other, 0.0, 1)


def test_two_tokenizers_are_refused() -> None:
    def speaking(vocabulary: dict[str, int]) -> LocalModel:
        words = SimpleNamespace(get_vocab=lambda: vocabulary)
        return cast(LocalModel, SimpleNamespace(name="one", tokenizer=words))

    same_vocabulary(speaking({"a": 0}), speaking({"a": 0}))
    with pytest.raises(CannotRun, match="differ in their tokenizer"):
        same_vocabulary(speaking({"a": 0}), speaking({"b": 0}))
