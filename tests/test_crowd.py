"""A crowd of scripted checkpoints, asked in every manner.

1. The manners differ in words and in nothing else; the shipped one is what every probe asks, so
   answers that were kept stay good.
2. What was answered is not asked again, whatever the manner.
3. `regent probe crowd` finds an item whose gold is wrong, is blind at chance, and refuses what is
   no crowd, in one line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from agents.cli import app
from regent.errors import CannotRun
from regent.models.speaker import Conversation, Reply, Sampling
from supervisor.reflectivity.asking import ask, conversation
from supervisor.reflectivity.crowd import gather
from supervisor.reflectivity.items import Item, shipped, write_items
from supervisor.reflectivity.manners import MANNERS, SHIPPED

ITEMS = [item for item in shipped() if item.subtask == "own_vs_others" and item.split == "dev"][:80]
QUADS = {item.options: [one for one in ITEMS if one.options == item.options] for item in ITEMS}


class Checkpoint:
    """Answers right with its own chance, by a coin of its own for each item and manner."""

    can = frozenset({"sample"})

    def __init__(self, name: str, ability: float) -> None:
        self.name, self.ability, self.asked = name, ability, 0

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        replies = []
        for turns in conversations:
            self.asked += 1
            schema: Any = how.json_schema
            options = schema["properties"]["answer"]["enum"]
            (item,) = (one for one in QUADS[tuple(options)] if one.context in turns[-1].content)
            words = turns[-1].content.replace(item.options[0], "").replace(item.options[1], "")
            coin = hashlib.sha256(f"{self.name}{item.id}{words}".encode()).digest()
            wrong = coin[0] / 256 > self.ability
            replies.append(Reply(json.dumps({"answer": options[item.gold ^ wrong]})))
        return replies


def crowd(abilities: Sequence[float]) -> list[tuple[str, Checkpoint]]:
    return [(f"m{i}", Checkpoint(f"m{i}", ability)) for i, ability in enumerate(abilities)]


def test_manners_differ_in_words_and_hold_text_question_and_both_options_once() -> None:
    assert len({manner.name for manner in MANNERS}) == len({m.user for m in MANNERS}) == 5
    assert {bool(manner.system) for manner in MANNERS} == {True, False}
    for manner in MANNERS:
        for item in ITEMS:
            *before, turn = conversation(item, (1, 0), manner)
            for words in (item.context, item.question, *item.options):
                assert words in turn.content
            assert [one.role for one in before] == (["system"] if manner.system else [])
            assert turn.content.rindex(item.options[1]) < turn.content.rindex(item.options[0])


def test_the_shipped_manner_is_what_was_always_asked() -> None:
    """Bytes of a whole prompt, so that answers kept under it stay good."""
    (turn,) = conversation(replace(ITEMS[0], context="C", question="Q?", options=("a", "b")))
    assert turn.content == (
        "Read the text and answer the question with one of the two lines below it, word for word."
        "\n\nC\n\nQ?\n\n- a\n- b"
    )


def test_answers_kept_in_one_manner_answer_no_other(tmp_path: Path) -> None:
    model = Checkpoint("m", 1.0)
    ask(model, ITEMS[:4], tmp_path)
    assert model.asked == 8
    gather([("m", model)], ITEMS[:4], tmp_path)
    assert model.asked == 8 * len(MANNERS)
    gather([("m", model)], ITEMS[:4], tmp_path)
    assert model.asked == 8 * len(MANNERS)


def test_a_crowd_is_a_row_a_checkpoint_and_manner() -> None:
    found = gather(crowd([1.0, 0.0]), ITEMS[:8])
    assert found.responses.shape == (2 * len(MANNERS), 8)
    assert found.model == ("m0",) * 5 + ("m1",) * 5
    assert found.manner[:5] == tuple(manner.name for manner in MANNERS)
    assert found.manner[0] == SHIPPED.name
    assert (found.responses[:5] == 1).all()
    assert (found.responses[5:] == 0).all()


def test_one_model_under_two_names_is_refused() -> None:
    same = Checkpoint("digest", 0.7)
    with pytest.raises(CannotRun, match="b and a are the same model"):
        gather([("a", same), ("b", same)], ITEMS[:4])


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`regent probe crowd` over scripted checkpoints, on items in a folder."""

    def run(abilities: Sequence[float], items: Sequence[Item], *more: str) -> Any:
        made = dict(crowd(abilities))
        monkeypatch.setattr("supervisor.reflectivity.witness.witness", made.__getitem__)
        write_items(items, tmp_path / "items")
        folders = ["--items", str(tmp_path / "items"), "--folder", str(tmp_path / "kept")]
        return CliRunner().invoke(app, ["probe", "crowd", *made, *folders, *more])

    return run


def test_the_command_names_an_item_whose_gold_is_wrong(probed: Any) -> None:
    spoiled = [replace(ITEMS[0], gold=1 - ITEMS[0].gold), *ITEMS[1:]]
    said = probed(np.linspace(0.3, 0.99, 20), spoiled, "--json")
    assert said.exit_code == 0, said.output
    fields = json.loads(said.stdout)
    assert (fields["respondents"], fields["checkpoints"], fields["blind"]) == (100, 20, "")
    first = fields["items"][0]
    assert (first["id"], first["word"]) == (ITEMS[0].id, "flat")
    assert first["discrimination"] < 0
    assert sum(fields["counts"].values()) == len(ITEMS)
    assert len(fields["asked"]) == 100
    assert "surely flat" in probed(np.linspace(0.3, 0.99, 20), spoiled).stdout


def test_a_crowd_at_chance_exits_with_3_and_says_why(probed: Any) -> None:
    said = probed([0.5] * 6, ITEMS, "--json")
    assert said.exit_code == 3
    fields = json.loads(said.stdout)
    assert "coins" in fields["blind"]
    assert {one["word"] for one in fields["items"]} <= {"unsure", "all right", "none right"}
    assert "Blind: " in probed([0.5] * 6, ITEMS).stdout


@pytest.mark.parametrize(
    ("models", "more", "complaint"),
    [
        (3, (), "3 models in 5 manners are no crowd; name 4 at least"),
        (4, ("--split", "sealed"), "no item of the split sealed"),
        (4, ("--split", "test"), "there is no split 'test'"),
    ],
)
def test_what_is_no_crowd_is_refused_in_one_line(
    probed: Any, models: int, more: tuple[str, ...], complaint: str
) -> None:
    said = probed([0.5] * models, ITEMS[:4], *more)
    assert said.exit_code == 2
    assert complaint in said.stderr
    assert said.stderr.count("\n") == 1
