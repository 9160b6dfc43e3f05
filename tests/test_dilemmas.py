"""The dilemmas are what they promise: 66 over twelve domains, evenly worded, in balanced order, and
nothing in them stands elsewhere; a faulty one is refused with its place.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from regent.errors import CannotRun
from supervisor.diffing.approvals import statements
from supervisor.reflectivity.dilemmas import (
    KINDS,
    Dilemma,
    questions,
    read_dilemmas,
    shipped_dilemmas,
)
from supervisor.reflectivity.faults import LENGTHS
from supervisor.reflectivity.items import Item, frames_folder
from supervisor.reflectivity.variety import MEDIAN, NINETY_FIFTH, nearest, normalised

FOLDER = Path("supervisor/reflectivity/dilemmas")


@cache
def dilemmas() -> tuple[Dilemma, ...]:
    return tuple(shipped_dilemmas())


def test_there_are_66_dilemmas_a_third_of_them_on_the_development_of_ai() -> None:
    domains = Counter(one.domain for one in dilemmas())
    assert (len(dilemmas()), len(domains), domains["AI development"]) == (66, 12, 22)
    assert len({one.name for one in dilemmas()}) == 66
    assert Counter(frozenset(one.sides) for one in dilemmas()) == {
        frozenset(pair): 11 for pair in KINDS
    }
    genres = [telling.genre for one in dilemmas() for telling in one.told[1:]]
    assert len(set(genres)) >= 0.9 * len(genres)


def test_orders_are_balanced_and_options_of_a_length() -> None:
    leading = {kind for kind, _ in KINDS}
    assert sum(one.sides[0] in leading for one in dilemmas()) == 33
    for pair in KINDS:
        first = sum(one.sides == pair for one in dilemmas())
        assert first in (5, 6)
    lengths: dict[str, list[int]] = {}
    for one in dilemmas():
        for question in questions(one):
            short, long = sorted(map(len, question.options))
            assert long / short - 1 <= LENGTHS
            for kind, words in zip(one.sides, question.options, strict=True):
                lengths.setdefault(kind, []).append(len(words))
    for one_kind, other in KINDS:  # nor is a kind the longer one by and large
        assert np.mean(lengths[one_kind]) == pytest.approx(np.mean(lengths[other]), rel=0.05)


def test_no_telling_borrows_the_options_of_another() -> None:
    """A liking for certain words must not pass for a choice."""
    for one in dilemmas():
        options = [
            normalised(words) for question in questions(one)[:4] for words in question.options
        ]
        assert len(set(options)) == 8, one.name


def test_only_the_case_leaves_the_one_who_is_asked_out_of_the_scene() -> None:
    you = re.compile(r"\b(you|your|yours|yourself)\b", re.I)
    for one in dilemmas():
        assert not you.search(one.case.text), one.name
        assert you.search(f"{one.told[0].text} {one.told[0].question}"), one.name
        assert you.search(one.case.of_itself) or re.search(r"\b(your|I)\b", one.case.of_itself)
        assert re.search(r"\b(another|other|different|fellow)\b", one.case.of_another, re.I), (
            one.name
        )


def sentences(text: str) -> set[str]:
    """Of five words or more, normalised."""
    parts = (normalised(part) for part in re.split(r"[.!?:;]\s|\n", text))
    return {part for part in parts if len(part.split()) >= 5}


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings(one)


def words(dilemma: Dilemma) -> str:
    parts = [f"{q.context}\n{q.question}\n" + "\n".join(q.options) for q in questions(dilemma)]
    return "\n".join(parts)


def test_no_sentence_stands_in_two_dilemmas_or_in_frames_or_approvals() -> None:
    times = Counter(sentence for one in dilemmas() for sentence in sentences(words(one)))
    assert [sentence for sentence, n in times.items() if n > 1] == []
    elsewhere: set[str] = set()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in frames_folder().rglob("*.yaml"):
        for text in strings(yaml.load(path.read_text("utf-8"), Loader=loader)):
            elsewhere |= sentences(text)
    for statement in statements():
        for text in statement.about.values():
            elsewhere |= sentences(text)
    assert set(times) & elsewhere == set()


def test_dilemmas_are_as_unlike_each_other_as_frames_are() -> None:
    texts = [
        Item(
            one.name, "own_vs_others", one.name, one.name, "a1", "dev", words(one), "", ("", ""), 0
        )
        for one in dilemmas()
    ]
    median, ninety_fifth = nearest(texts)
    assert (median <= MEDIAN, ninety_fifth <= NINETY_FIFTH) == (True, True)


def test_both_predictions_are_of_one_case_and_asked_in_one_pass() -> None:
    question = questions(dilemmas()[0])[0]
    assert question.quad == "credit-to-the-labeller.0"
    itself, another = questions(dilemmas()[0])[3:]
    assert itself == replace(another, question=itself.question)


def spoiled(change: Callable[[Any], object]) -> Any:
    """`art.yaml` with its first dilemma changed."""
    file = yaml.safe_load((FOLDER / "art.yaml").read_text("utf-8"))
    change(file["dilemmas"][0])
    return file


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda one: one["told"].pop(), "told 2 times; it needs 3"),
        (lambda one: one["case"].pop("of_another"), "dilemmas.0.case.of_another"),
        (lambda one: one["case"]["options"].pop("tact"), "keyed by one of candour/tact"),
        (lambda one: one["told"][1]["options"].update(tact="hush"), "may differ by 15%"),
        (lambda one: one["told"][1].update(gold="tact"), "dilemmas.0.told.1.gold"),
        (lambda one: one.update(name="varnish-on-the-saint"), "2 dilemmas are named varnish"),
    ],
)
def test_a_faulty_dilemma_is_refused_with_its_place(
    tmp_path: Path, change: Callable[[Any], object], complaint: str
) -> None:
    (tmp_path / "art.yaml").write_text(yaml.safe_dump(spoiled(change)), "utf-8")
    with pytest.raises(CannotRun, match=re.escape(complaint)) as error:
        read_dilemmas(tmp_path)
    assert "\n" not in str(error.value)
