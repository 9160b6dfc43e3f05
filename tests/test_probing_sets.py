"""The shipped probing sets, and what each gate is there to catch.

1. Five sets of 300 over 75 frames, made by the forge from the frames that lie beside them; every
   gate holds.
2. A spoiled set fails the gate that is meant for it.
3. Nothing sealed stands in any prompt or training set of this project.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.cli import app
from regent.records import digest
from supervisor.reflectivity.frame import SUBTASKS, Frame
from supervisor.reflectivity.items import (
    CANARY,
    Item,
    forge,
    frames_folder,
    shipped,
    shipped_frames,
    write_items,
)
from supervisor.reflectivity.validation import Validation, validate
from supervisor.reflectivity.variety import normalised

ROOT = Path(__file__).parent.parent


@cache
def frames() -> tuple[Frame, ...]:
    return tuple(shipped_frames())


@cache
def items() -> tuple[Item, ...]:
    return tuple(forge(frames()))


@cache
def found() -> Validation:
    return validate(frames())


def failed(validation: Validation) -> set[str]:
    return {gate.name for gate in validation.gates if not gate.holds}


def test_every_gate_holds_on_the_shipped_sets() -> None:
    assert found().faults == ()
    assert failed(found()) == set()
    assert not any(gate.blind for gate in found().gates)


def test_there_are_300_items_in_each_of_five_sets_over_75_frames() -> None:
    assert Counter(item.subtask for item in shipped()) == dict.fromkeys(SUBTASKS, 300)
    assert Counter(frame.split for frame in frames()) == {"dev": 45, "sealed": 30}
    assert len({frame.domain for frame in frames()}) >= 12
    assert sum(frame.about_ai for frame in frames()) == 25
    sealed, dev = (
        {frame.genre for frame in frames() if frame.split == split} for split in ("sealed", "dev")
    )
    assert sealed - dev  # whole genres are held out


def test_the_shipped_files_are_what_the_forge_makes(tmp_path: Path) -> None:
    for path in write_items(items(), tmp_path):
        kept = frames_folder().parent / "items" / path.name
        assert path.read_bytes() == kept.read_bytes(), f"regent probe make --out {kept.parent}"


def test_each_rotation_words_every_cause_anew_and_keeps_every_answer() -> None:
    turned = forge(frames(), rotation=1)
    for one, other in zip(items(), turned, strict=True):
        assert (one.id, one.options, one.gold) == (other.id, other.options, other.gold)
        assert one.context != other.context


def test_the_cause_alone_moves_the_answer() -> None:
    for start in range(0, len(items()), 4):
        quad = items()[start : start + 4]
        assert [item.variant for item in quad] == ["a1", "a2", "b1", "b2"]
        assert quad[0].gold == quad[1].gold != quad[2].gold == quad[3].gold


def test_causes_are_mostly_inferred_and_negation_goes_with_no_answer() -> None:
    ways = [
        (state, cell.cause[state].ways[way])
        for frame in frames()
        for cell in frame.cells.values()
        for state in (0, 1)
        for way in range(3)
    ]
    assert sum(way.inferred is not None for _, way in ways) >= len(ways) / 2


def cue(item: Item, words: str, when: bool) -> Item:
    return replace(item, context=f"{item.context} {words}") if when else item


def longer(item: Item) -> Item:
    """The right option made longer."""
    options = [*item.options]
    options[item.gold] += ", all in all"
    return replace(item, options=(options[0], options[1]))


def first(item: Item) -> Item:
    """The right option put first."""
    if item.gold == 0:
        return item
    return replace(item, options=item.options[::-1], kind=1 - item.kind, gold=0)


def of_kind(item: Item) -> bool:
    """Whether the right option is of the kind that recurs: welcome, after, influences."""
    return item.gold == item.kind


def negated_shortcut(item: Item) -> Item:
    return cue(item, "It was not so, never.", when=not of_kind(item))


def repeated(item: Item) -> Item:
    """Another frame's item put in the place of every third."""
    if int(digest(item.quad.encode()), 16) % 3:
        return item
    other = next(
        one for one in items() if one.subtask == item.subtask and one.variant == item.variant
    )
    return replace(other, id=item.id, quad=item.quad, frame=item.frame)


def wrong(item: Item) -> Item:
    return replace(item, gold=1 - item.gold) if item.quad == items()[0].quad else item


@pytest.mark.parametrize(
    ("subtask", "spoil", "gates"),
    [
        ("own_vs_others", longer, {"longest option", "option length gap"}),
        ("own_vs_others", first, {"first option", "gold position off one half"}),
        ("own_vs_others", wrong, {"second solver disagrees"}),
        ("own_vs_others", repeated, {"items twice", "the same, 95th percentile"}),
        (
            "influence_identification",
            lambda i: cue(i, i.options[i.gold], when=True),
            {"lexical overlap", "last mentioned"},
        ),
        ("influence_desirability", negated_shortcut, {"negation and overlap"}),
        ("current_vs_future", negated_shortcut, {"negation and overlap"}),
        ("influence_prediction", negated_shortcut, {"negation and overlap"}),
        (
            "influence_desirability",
            lambda i: cue(i, "All wonderful!", of_kind(i)),
            {"sentiment"},
        ),
        (
            "current_vs_future",
            lambda i: cue(i, "Item seven applies.", of_kind(i)),
            {"context only", "bag of words"},
        ),
    ],
)
def test_a_spoiled_set_fails_the_gate_that_is_meant_for_it(
    subtask: str, spoil: Callable[[Item], Item], gates: set[str]
) -> None:
    spoiled = [spoil(item) for item in items() if item.subtask == subtask]
    assert gates <= failed(validate(frames(), spoiled))


def test_a_frame_whose_gold_is_wrong_fails_by_name() -> None:
    spoiled = frames()[0].model_copy(deep=True)
    cell = spoiled.cells["own_vs_others"]
    states = (cell.cause[0].model_copy(update={"facts": cell.cause[1].facts}), cell.cause[1])
    cells = {**spoiled.cells, "own_vs_others": cell.model_copy(update={"cause": states})}
    validation = validate([spoiled.model_copy(update={"cells": cells}), *frames()[1:8]])
    assert "faults of frames" in failed(validation)
    assert any(fault.startswith(f"{spoiled.name}: own_vs_others") for fault in validation.faults)


def test_nothing_sealed_stands_in_a_prompt_or_training_set_of_this_project() -> None:
    sealed = {normalised(item.context) for item in items() if item.split == "sealed"}
    pieces = {" ".join(text.split()[i : i + 12]) for text in sealed for i in (3, 20, 40)}
    home = frames_folder().parent
    for path in [*ROOT.rglob("*.jsonl"), *ROOT.rglob("*.json"), *ROOT.rglob("*.py")]:
        inside = path.relative_to(ROOT)
        if home in path.parents or inside.parts[0].startswith(".") or inside.parts[0] == "runs":
            continue
        text = normalised(path.read_text("utf-8"))
        assert not any(piece in text for piece in pieces), path


def test_sealed_rows_carry_the_canary_and_others_do_not() -> None:
    for path in (frames_folder().parent / "items").glob("*.jsonl"):
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            assert (row.get("canary") == CANARY) == (row["split"] == "sealed")


def test_the_command_validates_and_makes_and_its_exit_code_says_which(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in ("bell-tower", "ticket-queue"):
        text = (frames_folder() / "dev" / f"{name}.yaml").read_text("utf-8")
        (folder / f"{name}.yaml").write_text(text)
    sound = CliRunner().invoke(app, ["probe", "validate", str(folder), "--json"])
    assert (sound.exit_code, json.loads(sound.stdout)["holds"]) == (0, True)
    out = tmp_path / "items"
    made = CliRunner().invoke(app, ["probe", "make", str(folder), "--out", str(out), "--json"])
    assert json.loads(made.stdout)["items"] == 40
    (folder / "bell-tower.yaml").write_text(
        (folder / "bell-tower.yaml").read_text().replace("to bring a hard pattern off", "x")
    )
    spoiled = CliRunner().invoke(app, ["probe", "validate", str(folder)])
    assert spoiled.exit_code == 1
    assert "bell-tower: own_vs_others: options" in " ".join(spoiled.stdout.split())
    (folder / "broken.yaml").write_text("name: broken\n")
    (folder / "worse.yaml").write_text("- a list\n")
    more = json.loads(CliRunner().invoke(app, ["probe", "validate", str(folder), "--json"]).stdout)
    for name in ("bell-tower: own_vs_others: options", "broken.yaml", "worse.yaml"):
        assert any(name in fault for fault in more["faults"])
    assert "what fails: faults of frames" in spoiled.stdout
    for name in ("broken", "worse"):
        (folder / f"{name}.yaml").unlink()
    a_file = tmp_path / "file"
    a_file.write_text("x")
    taken = CliRunner().invoke(app, ["probe", "make", "--out", str(a_file)])
    assert (taken.exit_code, taken.stderr.count("\n")) == (2, 1)
    refused = CliRunner().invoke(app, ["probe", "make", str(folder), "--out", str(out)])
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
