"""The diff whole: its word, what it reports, and `regent diff` on recordings and on speakers.

1. A planted behaviour is reported first and called different; equal sides are never called so.
2. `same` needs every frozen behaviour surely within the tolerance; few prompts are blind.
3. One seed gives one JSON; another draws otherwise. Exit codes and one line for bad input.

Speakers and embeddings are scripted, so that the truth is known.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from typer.testing import CliRunner

from agents.cli import app
from regent.errors import CannotRun
from regent.models.speaker import Conversation, Sampling
from supervisor.diffing.behaviours import Behaviour
from supervisor.diffing.comparison import Levels, Responses, count, pair, shown
from supervisor.diffing.difference import FEWEST_PROMPTS, difference
from supervisor.diffing.prompts import load
from supervisor.diffing.report import _examples, as_fields, show
from supervisor.diffing.sides import Ask, looks
from tests.scripted_endpoint import scripted_endpoint
from tests.scripted_speakers import Chatter, embed

HABIT = "Buy our new Zepto phone today."


def said(seed: int, prompts: int, samples: int, habit: str = "", share: float = 0.0) -> Responses:
    speaker = Chatter("x", seed, habit, share)
    return [
        (f"p{i:04d}", [r.text for r in speaker.sample([()] * samples, Sampling())])
        for i in range(prompts)
    ]


def recorded(path: Path, responses: Responses) -> str:
    rows = [
        {"prompt_id": name, "prompt": f"Ask {name}.", "response": text}
        for name, texts in responses
        for text in texts
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")
    return str(path)


def test_a_planted_behaviour_is_reported_first_and_called_different() -> None:
    found = difference(pair(said(1, 80, 2), said(2, 80, 2, HABIT, 0.5), embed))
    assert found.verdict == "different"
    assert found.equality.p_value <= 0.01
    first = found.behaviours[0]
    assert any(word in " ".join(first.shift.behaviour.terms) for word in ("zepto", "buy"))
    assert first.adjusted_p <= 0.01
    assert (first.shift.left_share, first.shift.right_share > 0.3) == (0.0, True)


def test_equal_sides_are_not_called_different() -> None:
    alarms = 0
    for look in range(10):
        found = difference(pair(said(100 + look, 30, 2), said(200 + look, 30, 2), embed), seed=look)
        assert found.verdict != "different"
        alarms += bool(found.behaviours)
    assert alarms <= stats.binom.isf(0.001, 10, 0.05)


def test_equal_sides_are_the_same_within_a_wide_tolerance() -> None:
    assert (
        difference(pair(said(1, 200, 2), said(2, 200, 2), embed), tolerance=0.4).verdict == "same"
    )


@pytest.mark.parametrize("prompts", [1, 2 * FEWEST_PROMPTS - 1])
def test_too_few_prompts_are_blind_and_still_tested_for_equality(prompts: int) -> None:
    found = difference(pair(said(1, prompts, 3), said(2, prompts, 3, HABIT, 1.0), embed))
    assert (found.verdict, found.drift.blind, found.behaviours) == ("inconclusive", True, ())
    assert 0 < found.equality.p_value <= 1


def test_a_thousand_samples_for_one_prompt_and_one_for_another_are_compared() -> None:
    left, right = said(1, 20, 1), said(2, 20, 1)
    left = [(left[0][0], said(3, 1, 1000)[0][1]), *left[1:]]
    assert difference(pair(left, right, embed)).n_responses == 1000 + 19 + 20


@pytest.mark.parametrize(("tolerance", "alpha"), [(0.0, 0.05), (1.0, 0.05), (0.1, 0.0), (0.1, 1)])
def test_a_tolerance_or_alpha_out_of_range_is_refused(tolerance: float, alpha: float) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        difference(pair(said(1, 20, 1), said(2, 20, 1), embed), tolerance=tolerance, alpha=alpha)


def test_models_are_asked_in_stages_and_gate_prompts_never(tmp_path: Path) -> None:
    speakers = {"a": Chatter("a", 1), "b": Chatter("b", 2)}
    ask = Ask(prompts=40, discovery=16, samples=1, stages=4)
    seen = list(looks("a", "b", speakers.__getitem__, ask, 0, tmp_path, embed))
    assert [len(look.left) for look in seen] == [26, 36, 46, 56]
    assert [look.last for look in seen] == [False, False, False, True]
    gate = {prompt.turns for prompt in load("gate")}
    asked: set[Conversation] = {tuple(c) for s in speakers.values() for c in s.asked}
    assert not asked & gate
    assert len(speakers["a"].asked) == 56
    list(looks("a", "b", speakers.__getitem__, ask, 0, tmp_path, embed))
    assert len(speakers["a"].asked) == 56  # nothing is asked twice


def test_one_model_against_itself_is_two_halves_of_its_samples(tmp_path: Path) -> None:
    alone = Chatter("a", 1)
    ask = Ask(prompts=20, discovery=16, samples=2, stages=1)
    (look,) = looks("a", "a", lambda _: alone, ask, 0, tmp_path, embed)
    assert len(alone.asked) == 4 * 36
    assert all(len(texts) == 2 for _, texts in look.left + look.right)
    assert look.left != look.right


def test_a_model_beside_a_recording_is_asked_its_prompts(tmp_path: Path) -> None:
    file = recorded(tmp_path / "left.jsonl", said(1, 20, 2))
    model = Chatter("m", 2)
    (look,) = looks(file, "m", lambda _: model, Ask(), 0, tmp_path, embed)
    assert {c[0].content for c in model.asked} == {f"Ask p{i:04d}." for i in range(20)}
    assert [len(texts) for _, texts in look.right] == [2] * 20
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"prompt_id": "a", "response": "x"}\n')
    with pytest.raises(CannotRun, match="has no 'prompt'"):
        list(looks(str(bare), "m", lambda _: model, Ask(), 0, tmp_path, embed))


def test_what_recordings_leave_unused_and_a_silent_side_are_noted(tmp_path: Path) -> None:
    files = [recorded(tmp_path / f"{side}.jsonl", said(1, 20, 2)) for side in ("left", "right")]
    mute = recorded(tmp_path / "mute.jsonl", [(f"p{i:04d}", [" ", ""]) for i in range(20)])

    def notes(ask: Ask, *names: str) -> str:
        (look,) = looks(*names, lambda _: Chatter("m", 2), ask, 0, tmp_path, embed)
        return " ".join(look.notes)

    assert notes(Ask(), *files) == ""
    assert "--samples" in notes(Ask(samples=4), *files)
    assert "--samples" not in notes(Ask(samples=4), files[0], "m")
    assert "Of the right side's 40 responses 40 are empty" in notes(Ask(), files[0], mute)


def test_a_side_without_weights_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    file = recorded(tmp_path / "left.jsonl", said(1, 20, 1))
    for right, complaint in (("gone@http://127.0.0.1:9/v1", "is a server"), (file, "has no wei")):
        told = CliRunner().invoke(app, ["diff", "smollm2", right, "--inside"])
        assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (2, "", 1)
        assert complaint in told.stderr


def test_examples_show_the_behaviour_on_one_side_and_not_on_the_other() -> None:
    """Whichever of a prompt's samples that is; not the first."""
    left = [(f"p{i}", ["plain", "plain too"]) for i in range(20)]
    right = [(f"p{i}", ["plain", "plain WITH IT"]) for i in range(20)]
    pool = pair(left, right, embed)
    has = Behaviour("it", "it", "phrase", lambda f: np.array([float("WITH" in t) for t in f.texts]))
    (shift,) = count([has], shown([has], pool), pool, Levels(0.95, 0.95, 20))
    assert shift.examples == (("plain", "plain WITH IT"),) * 2
    (lost,) = count([has], 1 - shown([has], pool), pool, Levels(0.95, 0.95, 20))
    assert lost.examples == (("plain", "plain WITH IT"),) * 2


def test_a_behaviour_beyond_the_tolerance_is_named_where_it_does_not_decide() -> None:
    found = difference(pair(said(1, 60, 2), said(2, 60, 2, HABIT, 0.6), embed))
    reported = found.behaviours
    assert reported
    unsure = replace(found, verdict="inconclusive", tolerance=0.01)
    assert (
        f"But “{reported[0].shift.behaviour.label}” by itself"
        in as_fields(unsure, "l", "r", 0, ())["reason"]
    )
    assert "by itself" not in as_fields(replace(unsure, tolerance=0.99), "l", "r", 0, ())["reason"]


def test_where_nothing_can_be_named_the_answers_that_part_most_are_shown() -> None:
    found = difference(pair(said(1, 60, 2), said(2, 60, 2, HABIT, 0.6), embed))
    fields = as_fields(replace(found, behaviours=()), "left", "right", 0, ())
    assert HABIT in fields["drift"]["examples"][0][1]
    screen = Console(width=200)
    with screen.capture() as captured:
        screen.print(show(fields))
    assert "where the sides part most" in captured.get()


def test_a_long_example_keeps_its_beginning_and_its_end() -> None:
    text = "a" * 3_000 + " shall I?"
    pool = pair([("p", ["x"])] * 1, [("p", [text])], embed)
    has = Behaviour("q", "q", "trait", lambda f: np.array([float("?" in t) for t in f.texts]))
    (shift,) = count([has], shown([has], pool), pool, Levels(0.95, 0.95, 1))
    kept = _examples(shift.examples)[0][1]
    assert kept.endswith("shall I?")
    assert len(kept) < 2_010
    assert "[…]" in kept


@pytest.mark.usefixtures("scripted_embeddings")
def test_recordings_that_give_one_id_to_two_prompts_are_refused(tmp_path: Path) -> None:
    for name, prompt in (("left", "Ask this."), ("right", "Ask that.")):
        rows = [{"prompt_id": f"p{i}", "prompt": prompt, "response": "x"} for i in range(20)]
        (tmp_path / f"{name}.jsonl").write_text("\ufeff" + "\n".join(map(json.dumps, rows)))
    paths = [str(tmp_path / f"{name}.jsonl") for name in ("left", "right")]
    refused = CliRunner().invoke(app, ["diff", *paths])
    assert refused.exit_code == 2
    assert "“Ask this.” on the left, “Ask that.” on the right" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert CliRunner().invoke(app, ["diff", paths[0], paths[0]]).exit_code in (0, 3)


@pytest.mark.usefixtures("scripted_embeddings")
def test_the_command_prints_one_object_and_its_exit_code_is_its_word(tmp_path: Path) -> None:
    left = recorded(tmp_path / "left.jsonl", said(1, 60, 2))
    right = recorded(tmp_path / "right.jsonl", [*said(2, 60, 2, HABIT, 0.5), ("more", ["x"])])

    def run(*more: str) -> Any:
        return CliRunner().invoke(app, ["diff", left, right, "--json", *more])

    first, again = run(), run()
    said_so_far = "60 prompts answered by both sides; comparing\n"
    assert (first.exit_code, first.stderr) == (1, said_so_far)
    assert first.stdout == again.stdout
    fields = json.loads(first.stdout)
    assert fields["verdict"] == "different"
    assert fields["drift"]["low"] <= fields["drift"]["estimate"] <= fields["drift"]["high"]
    assert {
        "id", "label", "left_share", "right_share", "difference", "low", "high", "adjusted_p",
        "concern", "terms", "examples",
    } <= set(fields["behaviours"][0])  # fmt: skip
    assert "1 prompts that one side lacks were dropped" in fields["notes"][0]
    alike = recorded(tmp_path / "alike.jsonl", said(3, 60, 2))  # no p at the least there can be
    drawn = [
        json.loads(CliRunner().invoke(app, ["diff", left, alike, "--json", "--seed", s]).stdout)
        for s in ("0", "1")
    ]
    assert drawn[0]["p_by_view"] != drawn[1]["p_by_view"]
    assert "different" in CliRunner().invoke(app, ["diff", left, right]).stdout
    assert CliRunner().invoke(app, ["diff", left, left, "--tolerance", "0.5"]).exit_code == 0


@pytest.mark.usefixtures("scripted_embeddings")
@pytest.mark.parametrize(
    ("lines", "complaint"),
    [("{broken\n", "line 1"), ('{"prompt_id": "z", "response": "x"}\n', "share no prompt_id")],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path: Path, lines: str, complaint: str) -> None:
    left = recorded(tmp_path / "left.jsonl", said(1, 20, 1))
    (tmp_path / "bad.jsonl").write_text(lines)
    result = CliRunner().invoke(app, ["diff", left, str(tmp_path / "bad.jsonl"), "--json"])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert complaint in result.stderr


@pytest.mark.usefixtures("scripted_embeddings")
def test_a_judge_of_nonsense_changes_nothing_else_and_a_dead_one_is_one_line(
    tmp_path: Path,
) -> None:
    left = recorded(tmp_path / "left.jsonl", said(1, 40, 2))
    right = recorded(tmp_path / "right.jsonl", said(2, 40, 2, HABIT, 0.5))
    page = tmp_path / "page.html"

    def run(*more: str) -> Any:
        command = ["diff", left, right, "--json", "--html", str(page), *more]
        return CliRunner().invoke(app, command)

    alone = json.loads(run().stdout)
    assert alone["judge"] is None
    assert any("No judge" in note for note in alone["notes"])
    with scripted_endpoint() as url:
        told = run("--judge", f"sums@{url}")
    assert told.exit_code == 1
    fields = json.loads(told.stdout)
    assert (fields["judge"]["unparsed"], fields["judge"]["hypotheses"]) == (6, [])
    assert fields["behaviours"] == alone["behaviours"]
    assert "proposed nothing that could be tested" in page.read_text("utf-8")
    dead = run("--judge", "sums@http://127.0.0.1:9/v1")
    assert (dead.exit_code, dead.stdout, dead.stderr.count("\n")) == (2, "", 1)
    assert "start it or mend the address" in dead.stderr


@pytest.mark.usefixtures("scripted_embeddings")
def test_a_page_without_a_folder_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    page = tmp_path / "nowhere" / "page.html"
    told = CliRunner().invoke(app, ["diff", "a.jsonl", "b.jsonl", "--html", str(page)])
    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (2, "", 1)
    assert f"there is no folder {page.parent}" in told.stderr
    told = CliRunner().invoke(app, ["diff", "a.jsonl", "b.jsonl", "--html", str(tmp_path)])
    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (2, "", 1)
    assert f"{tmp_path} is a folder" in told.stderr
