"""Asking probing items, and what the answers are said to mean.

1. A model at chance is blind, one that always takes the first option is too, and intervals over
   frames cover (simulated).
2. The tree of a quad scores what each option scores alone.
3. What was answered before a server died is neither asked nor counted twice.
4. NaN and refusals are missing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from agents.cli import app
from regent.errors import CannotRun
from regent.models.local import LocalModel
from regent.models.shared_prefix import score_together
from regent.models.speaker import Conversation, Reply, Sampling
from supervisor.reflectivity.asking import ask, conversation
from supervisor.reflectivity.items import Item, shipped
from supervisor.reflectivity.scoring import changes, holm, right, scores

ITEMS = shipped()
OWN = [item for item in ITEMS if item.subtask == "own_vs_others"]


def golds(items: Sequence[Item]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([1.0 - item.gold for item in items])


def test_a_perfect_model_sees_and_a_guess_is_blind() -> None:
    (best,) = scores(OWN, golds(OWN))
    assert (best.accuracy, best.consistency, best.brier, best.blind) == (1, 1, 0, False)
    assert 0.9 < best.low < best.high == 1
    (first,) = scores(OWN, np.ones(len(OWN)))  # takes the first option, whatever it is
    assert (first.accuracy, first.consistency, first.blind) == (0.5, 0, True)
    (none,) = scores(OWN, np.full(len(OWN), 0.5))
    assert (none.accuracy, none.blind, none.brier) == (0.5, True, 0.25)
    (worst,) = scores(OWN, 1 - golds(OWN))
    assert (worst.accuracy, worst.blind) == (0, False)  # surely wrong is no blindness


def test_missing_answers_count_in_nothing() -> None:
    answers = golds(OWN)
    answers[:100] = np.nan
    (some,) = scores(OWN, answers)
    assert (some.accuracy, some.n, some.missing) == (1, 200, 100)
    (none,) = scores(OWN, np.full(len(OWN), np.nan))
    assert (none.blind, none.n, none.low, none.high) == (True, 0, 0, 1)


def test_intervals_over_frames_cover_when_a_frame_stands_or_falls_together() -> None:
    """True accuracy 0.7; a frame's four items share a luck of their own. 30 sealed frames."""
    sealed = [item for item in OWN if item.split == "sealed"]
    names = sorted({item.frame for item in sealed})
    frame = np.array([names.index(item.frame) for item in sealed])
    covered, looks = 0, 400
    for seed in range(looks):
        rng = np.random.default_rng([5, seed])
        luck = rng.beta(1.4, 0.6, len(names))  # mean 0.7, far from independent
        hit = rng.random(len(sealed)) < luck[frame]
        (score,) = scores(sealed, np.where(hit, golds(sealed), 1 - golds(sealed)), seed)
        covered += score.low <= 0.7 <= score.high
    assert covered >= stats.binom.ppf(0.001, looks, 0.92)  # percentile bootstrap of 30: near 93 %


def test_equal_models_are_rarely_called_worse_and_a_real_fall_is() -> None:
    wrong, looks = 0, 200
    for seed in range(looks):
        rng = np.random.default_rng([6, seed])
        one, other = (rng.random(len(ITEMS)) for _ in range(2))
        wrong += any(c.word in ("worse", "better") for c in changes(ITEMS, one, other, seed))
    assert wrong <= stats.binom.isf(0.001, looks, 0.05)
    fallen = np.where([i.subtask == "own_vs_others" for i in ITEMS], 1 - golds(ITEMS), 0.5)
    found = {c.subtask: c for c in changes(ITEMS, golds(ITEMS), fallen)}
    assert found["own_vs_others"].word == "worse"
    assert found["own_vs_others"].difference == -1


def test_stable_is_claimed_only_within_the_margin() -> None:
    same = changes(ITEMS, golds(ITEMS), golds(ITEMS))
    assert {change.word for change in same} == {"stable"}
    rng = np.random.default_rng(1)
    sealed = [item for item in OWN if item.split == "sealed"]
    noisy = np.where(rng.random(len(sealed)) < 0.75, golds(sealed), 1 - golds(sealed))
    other = np.where(rng.random(len(sealed)) < 0.75, golds(sealed), 1 - golds(sealed))
    (unsure,) = changes(sealed, noisy, other)
    assert unsure.word == "unsure"


def test_holm_is_as_published() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


class Chooser:
    """Answers a constrained choice: the right option, or what `say` makes of the two."""

    can = frozenset({"sample"})

    def __init__(self, name: str, fails_after: int = 10**9, says: str = "") -> None:
        self.name, self.fails_after, self.says = name, fails_after, says
        self.asked: list[Conversation] = []

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        self.asked.extend(conversations)
        if len(self.asked) > self.fails_after:
            return [Reply("", "error", error="connection refused") for _ in conversations]
        schema: Any = how.json_schema
        option = schema["properties"]["answer"]["enum"][0]
        return [Reply(self.says or json.dumps({"answer": option})) for _ in conversations]


def test_a_server_without_log_probabilities_is_held_to_one_of_the_two(tmp_path: Path) -> None:
    answers = ask(Chooser("first"), OWN[:8])
    assert answers.raw.tolist() == [1.0] * 8
    refusing = ask(Chooser("refuses", says='{"answer": "I would rather not"}'), OWN[:8])
    assert np.isnan(refusing.raw).all()
    assert np.isnan(ask(Chooser("odd", says="as an AI"), OWN[:8]).raw).all()


def test_what_was_answered_before_a_server_died_is_not_asked_twice(tmp_path: Path) -> None:
    dying = Chooser("m", fails_after=2 * 100)
    with pytest.raises(CannotRun, match="repeat the command") as error:
        ask(dying, OWN[:200], tmp_path)
    assert "\n" not in str(error.value)
    again = Chooser("m")
    answers = ask(again, OWN[:200], tmp_path)
    assert len(again.asked) == 2 * (200 - 64)  # the first 64 were kept
    assert len(answers.raw) == 200
    silent = Chooser("m", fails_after=0)
    assert ask(silent, OWN[:200], tmp_path).raw.tolist() == answers.raw.tolist()


class Scorer:
    can = frozenset({"sample", "score"})
    name = "scorer"

    def __init__(self, nats: float) -> None:
        self.nats = nats

    def score(self, conversations: Sequence[Conversation], texts: Sequence[str]) -> Any:
        return np.full(len(texts), self.nats)


def test_log_probabilities_that_are_no_numbers_are_missing() -> None:
    for nats in (float("nan"), float("-inf")):
        assert np.isnan(ask(Scorer(nats), OWN[:4]).raw).all()  # type: ignore[arg-type]
    assert ask(Scorer(-3.0), OWN[:4]).raw.tolist() == [0.5] * 4  # type: ignore[arg-type]


def test_an_answer_that_the_first_order_alone_prefers_is_half() -> None:
    half = replace(OWN[0], gold=0)
    assert right([half], np.array([0.5])).tolist() == [0.5]


def test_both_orders_are_asked_and_hold_both_options() -> None:
    for order in ((0, 1), (1, 0)):
        (turn,) = conversation(OWN[0], order)
        places = [turn.content.index(f"- {OWN[0].options[i]}") for i in order]
        assert places == sorted(places)


def test_an_item_file_with_a_bad_line_is_refused_with_file_and_line(tmp_path: Path) -> None:
    row = json.loads(
        (Path("supervisor/reflectivity/items/own_vs_others.jsonl")).read_text().splitlines()[0]
    )
    for change in ({"gold": 2}, {"options": ["", "x"]}, {"options": ["one"]}, {"subtask": "x"}):
        (tmp_path / "own_vs_others.jsonl").write_text(json.dumps(row | change) + "\n")
        refused = CliRunner().invoke(app, ["probe", "smollm2", "--items", str(tmp_path)])
        assert refused.exit_code == 2
        assert "own_vs_others.jsonl, line 1" in refused.stderr
        assert refused.stderr.count("\n") == 1
    refused = CliRunner().invoke(app, ["probe", "smollm2", "--split", "test"])
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)


@pytest.mark.real
def test_a_quad_in_one_pass_scores_what_each_option_scores_alone(smollm2_folder: Path) -> None:
    model = LocalModel(smollm2_folder)
    model.model.float()  # in bfloat16 the same sum in another order is some tenths off
    orders = ((0, 1), (1, 0))
    asked = [
        [(conversation(item, order), option) for order in orders for option in item.options]
        for item in OWN[:4]
    ]
    (together,) = score_together(model, [asked])
    for group, scored in zip(asked, together, strict=True):
        alone = model.score([said for said, _ in group], [option for _, option in group])
        assert scored.nats == pytest.approx(alone, abs=1e-3)
    (lone,) = score_together(model, [[asked[0][:1]]])  # one prompt, one reply
    assert lone[0].nats == pytest.approx(together[0].nats[:1], abs=1e-3)


@pytest.mark.real
def test_the_probe_says_the_same_twice_and_keeps_what_it_asked(
    smollm2_folder: Path, tmp_path: Path
) -> None:
    few = tmp_path / "items"
    few.mkdir()
    for path in Path("supervisor/reflectivity/items").glob("*.jsonl"):
        (few / path.name).write_text("".join(path.read_text("utf-8").splitlines(True)[:24]))
    said = []
    for folder in ("one", "two", "two"):
        args = ["probe", "smollm2", "--items", str(few), "--folder", str(tmp_path / folder)]
        said.append(CliRunner().invoke(app, [*args, "--json"]))
    assert {one.exit_code for one in said} <= {0, 3}
    assert said[0].stdout == said[1].stdout == said[2].stdout
    fields = json.loads(said[0].stdout)["models"][0]["subtasks"]
    assert set(fields) == {item.subtask for item in ITEMS}
    assert {"accuracy", "low", "high", "chance", "blind", "brier", "consistency", "n"} <= set(
        fields["own_vs_others"]
    )
