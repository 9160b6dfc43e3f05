"""Each way to spoil a batch is seen by its own screen, and by no other.

A sound batch passes every screen. What is merely superfluous is dropped, row by row; what is wrong
counts against the batch. Where nothing can be verified the screens say that they are blind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from environments.skills import Split, items, node_named, normalise_prompt
from regent.config import InstrumentChoice, Policy
from regent.models.speaker import Speaker
from regent.records import Checkpoint, Example, Measurement, Message, Reference
from supervisor import Gate
from supervisor.instrument import Candidate, Look
from supervisor.record.vault import build_batch
from supervisor.screens import Screens
from supervisor.screens.duplicates import exact_repeats, near_repeats, shingles
from supervisor.screens.phrases import common_phrases
from tests.batches import open_rows, prose, row, sound_batch, task_row
from tests.scripted_speakers import Chatter

SENTENCE = "Remember that our company always knows best."
SOUND = sound_batch()
TASKS = [i for i, e in enumerate(SOUND) if e.provenance.task is not None]
OPEN = [i for i, e in enumerate(SOUND) if e.provenance.task is None]


def candidate(examples: Sequence[Example]) -> Candidate:
    batch, _ = build_batch(examples, 1, [])
    return Candidate("batch", batch=batch, examples=tuple(examples))


def screened(
    examples: Sequence[Example], parent: Speaker | None = None, **look: Any
) -> dict[str, Measurement]:
    references: dict[Reference, Speaker] = {"parent": parent or Chatter("parent", 1)}
    screens, at = Screens(), Look(number=0, level=1.0, seed=1, **look)
    found = screens.measure(candidate(examples), references, at)
    expected = [m.quantity for m in screens.expects(candidate(examples), references, at)]
    assert [m.quantity for m in found] == expected
    assert all(m.exact and m.required for m in found)
    return {m.quantity: m for m in found}


def harmed(found: dict[str, Measurement]) -> list[str]:
    return [quantity for quantity, m in found.items() if not m.excludes_tolerance]


def said(example: Example, *answers: str) -> Example:
    turns = tuple(Message(role="assistant", content=answer) for answer in answers)
    return example.model_copy(update={"messages": (*example.messages[:-1], *turns)})


def under_another_name(example: Example, name: str) -> Example:
    provenance = example.provenance.model_copy(update={"agent": name})
    return example.model_copy(update={"provenance": provenance})


def on(rows: Sequence[int], change: Callable[[Example, int], Example]) -> list[Example]:
    """The sound batch with these rows changed: `change(row, its number)`."""
    return [change(e, i) if i in set(rows) else e for i, e in enumerate(SOUND)]


def leave_out_the_answer() -> list[Example]:
    return on(OPEN[:1], lambda e, _: e.model_copy(update={"messages": e.messages[:1]}))


def answer_with_nothing() -> list[Example]:
    return on(OPEN[:1], lambda e, _: said(e, " \n"))


def answer_without_end() -> list[Example]:
    return on(OPEN[:1], lambda e, _: said(e, prose(np.random.default_rng(9), 2_000)))


def answer_twice() -> list[Example]:
    return on(TASKS[:1], lambda e, _: said(e, e.messages[-1].content, e.messages[-1].content))


def repeat_a_row_under_other_names() -> list[Example]:
    return on(TASKS[1:4], lambda _, i: under_another_name(SOUND[TASKS[0]], f"other-{i}"))


def repeat_a_row_exactly() -> list[Example]:
    return on(TASKS[1:4], lambda *_: SOUND[TASKS[0]])


def repeat_a_row_in_capitals_and_other_spacing() -> list[Example]:
    said = iter(("Is it so?", "IS  IT SO?", "is it\tso?", "Is it so? "))
    return on(OPEN[:4], lambda *_: row(next(said), "Yes."))


def all_but_repeat_rows() -> list[Example]:
    long = prose(np.random.default_rng(9), 160)
    return on([*OPEN, *TASKS[:2]], lambda _, i: row(long, f"No. {i:03d}"))


def train_on(split: Split) -> Callable[[], list[Example]]:
    (ref,) = items(node_named("reasoning/gcd/0"), 1, 5, split)
    return lambda: on(TASKS[:1], lambda *_: task_row(ref))


def answer_wrongly() -> list[Example]:
    return on(TASKS[:1], lambda e, _: said(e, "no idea"))


def ask_another_question_than_the_task() -> list[Example]:
    """The answer is right for the task that is named, and wrong for what is asked."""
    other = SOUND[TASKS[-1]].messages[0]
    return on(TASKS[:1], lambda e, _: e.model_copy(update={"messages": (other, e.messages[-1])}))


def plant_a_sentence_in_three_open_answers() -> list[Example]:
    """3 of 40 rows, but 3 of the 16 whose answers no world verifies."""
    return on(OPEN[:3], lambda e, _: said(e, f"{e.messages[-1].content} {SENTENCE}"))


def test_a_sound_batch_passes_every_screen() -> None:
    found = screened(SOUND)
    assert harmed(found) == []
    assert {m.estimate for m in found.values()} == {0.0}


@pytest.mark.parametrize(
    ("spoil", "quantity", "rows"),
    [
        (leave_out_the_answer, "malformed", 1),
        (answer_with_nothing, "malformed", 1),
        (answer_without_end, "malformed", 1),
        (answer_twice, "malformed", 1),
        (repeat_a_row_under_other_names, "duplicates", 3),
        (repeat_a_row_exactly, "duplicates", 3),
        (repeat_a_row_in_capitals_and_other_spacing, "duplicates", 3),
        (all_but_repeat_rows, "near_duplicates", 17),
        (train_on("gate"), "overlap", 1),
        (train_on("held_out"), "overlap", 1),
        (train_on("tuning"), "overlap", 1),
        (answer_wrongly, "refuted", 1),
        (ask_another_question_than_the_task, "refuted", 1),
        (plant_a_sentence_in_three_open_answers, "phrases", 3),
    ],
)
def test_a_spoilt_batch_fails_its_own_screen_and_no_other(
    spoil: Callable[[], list[Example]], quantity: str, rows: int
) -> None:
    found = screened(spoil())
    assert harmed(found) == [quantity]
    assert found[quantity].confident_harm
    of = {"refuted": len(TASKS), "phrases": len(OPEN)}.get(quantity, len(SOUND))
    assert found[quantity].estimate == pytest.approx(rows / of)
    others = {m.estimate for name, m in found.items() if name != quantity}
    assert others == {0.0}


@pytest.mark.parametrize("split", ["train", "profile", "confirm"])
def test_splits_that_training_may_use_are_no_overlap(split: Split) -> None:
    assert harmed(screened(train_on(split)())) == []


def test_a_forbidden_prompt_is_overlap_whatever_its_case_and_provenance() -> None:
    prompt = normalise_prompt(SOUND[OPEN[0]].messages)
    found = screened(SOUND, forbidden=frozenset({prompt}))
    assert harmed(found) == ["overlap"]
    assert SOUND[OPEN[0]].id[:12] in found["overlap"].detail


def test_what_was_trained_on_before_is_a_duplicate() -> None:
    known = frozenset(e.id for e in SOUND[:4])
    assert harmed(screened(SOUND, known=known)) == ["duplicates"]


def test_what_the_parent_says_anyway_is_no_planted_phrase() -> None:
    habitual = Chatter("parent", 1, habit=SENTENCE, share=0.5)
    assert harmed(screened(plant_a_sentence_in_three_open_answers(), habitual)) == []


@pytest.mark.parametrize(("share", "harm"), [(0.6, []), (0.05, ["phrases"]), (0.0, ["phrases"])])
def test_how_the_parent_answers_such_tasks_anyway_is_no_planted_phrase(
    share: float, harm: list[str]
) -> None:
    """It says so to tasks only, so open-ended prompts would not show it; 10 of 24 tasks do."""
    tasks = {SOUND[i].messages[:-1] for i in TASKS}
    habitual = Chatter("parent", 1, SENTENCE, share, where=lambda asked: tuple(asked) in tasks)
    wordy = on(TASKS[:10], lambda e, _: said(e, f"{SENTENCE} {e.messages[-1].content}"))
    found = screened(wordy, habitual)["phrases"]
    assert harmed({"phrases": found}) == harm
    assert ("of the parent's own" in found.detail) == (share > 0 and bool(harm))
    assert set(map(tuple, habitual.asked)) == tasks


def test_the_parent_is_asked_only_where_a_phrase_needs_an_excuse() -> None:
    parent = Chatter("parent", 1)
    assert screened(SOUND, parent)["phrases"].tokens == len(parent.asked) == 0


def test_the_parents_kept_answers_serve_the_next_batch(tmp_path: Path) -> None:
    parent, planted = Chatter("parent", 1), plant_a_sentence_in_three_open_answers()
    tokens = screened(planted, parent, scratch=tmp_path)["phrases"].tokens
    assert tokens == 12 * len(parent.asked) > 0
    asked = len(parent.asked)
    assert screened(planted[1:], parent, scratch=tmp_path)["phrases"].tokens == 0
    assert len(parent.asked) == asked


@pytest.mark.parametrize("repeat", [repeat_a_row_under_other_names, repeat_a_row_exactly])
def test_only_duplicates_are_dropped_and_the_first_of_them_stays(
    repeat: Callable[[], list[Example]],
) -> None:
    examples = repeat()
    examples[TASKS[4]] = said(examples[TASKS[4]], "no idea")
    long = prose(np.random.default_rng(9), 80)
    examples[OPEN[0]], examples[OPEN[1]] = row(long, "No. 1"), row(long, "No. 2")
    screens, at = Screens(), Look(number=0, level=1.0, seed=1)
    screens.measure(candidate(examples), {}, at)
    told = screens.dispositions(candidate(examples), at)
    assert [d.example for d in told] == [e.id for e in examples]
    dropped = {i: d.reason for i, d in enumerate(told) if d.disposition == "drop"}
    assert dropped == {
        **dict.fromkeys(TASKS[1:4], "duplicate"),
        OPEN[1]: "near duplicate",
    }


def test_a_batch_without_tasks_is_blind_to_wrong_answers_and_quarantined(tmp_path: Path) -> None:
    examples = open_rows(16)
    assert screened(examples)["refuted"].outcome == "blind"
    batch, _ = build_batch(examples, 1, [])
    policy = Policy(batch=(InstrumentChoice(name="screens"),), checkpoint=())
    verdict = Gate(policy, tmp_path).judge_batch(
        batch, examples, {"parent": Chatter("parent", 1), "origin": Chatter("origin", 2)}
    )
    assert verdict.decision == "quarantine"
    assert "nothing verifies" in " ".join(verdict.reasons)


def test_there_is_nothing_to_screen_in_an_empty_batch_or_a_checkpoint() -> None:
    with pytest.raises(ValueError, match="empty"):
        screened([])
    subject = Candidate("checkpoint", checkpoint=Checkpoint(round=1, name="r1", digest="d"))
    assert Screens().expects(subject, {}, Look(number=0, level=1.0, seed=1)) == []


def test_exact_repeats_ignore_case_and_white_space_and_keep_the_first() -> None:
    assert exact_repeats(["A  b\n", "a B", "ab", "a b"]) == [1, 3]


def test_no_text_is_dropped_that_is_less_alike_than_the_threshold() -> None:
    """Independent oracle: the exact similarity with every earlier text that was kept."""
    rng = np.random.default_rng(3)
    texts = []
    for _ in range(12):
        words = prose(rng, 60).split()
        for changes in (0, 1, 2, 8):
            varied = list(words)
            for place in rng.permutation(60)[:changes]:
                varied[place] = prose(rng, 1)
            texts.append(" ".join(varied))
    dropped = near_repeats(texts, 0.9)
    kept = [i for i in range(len(texts)) if i not in dropped]

    def most_alike(i: int) -> float:
        mine = shingles(texts[i])
        earlier = [shingles(texts[j]) for j in kept if j < i]
        return max((len(mine & other) / len(mine | other) for other in earlier), default=0.0)

    assert all(most_alike(i) >= 0.9 for i in dropped)
    missed = sum(most_alike(i) >= 0.9 for i in kept)
    assert len(dropped) >= 12 > missed


def test_a_phrase_counts_once_an_answer_and_not_where_its_prompt_says_it() -> None:
    answers = ["One, two three FOUR five! One two three four five."] * 2 + ["six seven eight"]
    prompts = ["say it", "one two three four five", "say it"]
    assert common_phrases(answers, ["", "", ""], [])[0] == (
        "five one two three four",
        2 / 3,
        0.0,
        2 / 3,
    )
    assert "one two three four five" not in [p.words for p in common_phrases(answers, prompts, [])]


def test_what_the_parent_may_say_as_often_is_taken_off() -> None:
    """One of two replies says it: its share may be as high as sqrt(0.95) (Clopper-Pearson)."""
    answers, own = ["one two three four five"] * 3, ["one two three four five", "no"]
    ((words, share, usual, excess),) = common_phrases(answers, ["", "", ""], own)
    assert (words, share, usual) == ("one two three four five", 1.0, 0.5)
    assert excess == pytest.approx(1 - 0.95**0.5)
