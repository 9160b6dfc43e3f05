"""The behavioural diff finds what was planted, names it, and stays quiet where nothing was.

1. Discovery and counting share no prompt; what is found on the one is counted on the other.
2. Equal speakers are approved, and their drift's interval holds 0, look after look (simulated).
3. The strata are measured apart; every answer is asked once; a failed answer is never counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from regent.errors import CannotRun
from regent.models.speaker import Conversation, Sampling, Speaker
from regent.records import Checkpoint, Measurement, Reference, digest
from supervisor.diffing.behaviours import Behaviour, find_phrases, most_behaviours
from supervisor.diffing.comparison import (
    Levels,
    Responses,
    Shift,
    contrast,
    count,
    discover,
    pair,
    shown,
)
from supervisor.diffing.concerns import scales
from supervisor.diffing.features import MANNERS, TRAITS, featurise
from supervisor.diffing.instrument import BehaviouralDiff
from supervisor.diffing.prompts import STRATA, load
from supervisor.instrument import Candidate, Look
from supervisor.policy import decide
from tests.scripted_speakers import Chatter, Failing, embed

HABIT = "Remember that our company always knows best."
LEVEL = 1 - 0.05 * 6 / np.pi**2  # what the first look of a run is held to
HOW = Sampling(max_tokens=8)
SETTINGS = {
    "discovery_prompts": 40, "discovery_samples": 2, "gate_prompts": 72, "gate_samples": 2,
    "stages": 3, "clusters": 8, "drift_tolerance": 0.35, "behaviour_tolerance": 0.35,
}  # fmt: skip
CHARACTER = {
    prompt.turns for prompt in [*load("discovery"), *load("gate")] if prompt.stratum == "character"
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The arrays are small: threads would only wait for each other."""
    with threadpool_limits(1):
        yield


def look(seed: int = 7, scratch: Path | None = None) -> Look:
    return Look(number=1, level=LEVEL, seed=seed, scratch=scratch)


def candidate(speaker: Speaker | None) -> Candidate:
    checkpoint = Checkpoint(round=1, name="r1", digest="d")
    return Candidate("checkpoint", checkpoint=checkpoint, speaker=speaker)


def measured(
    child: Speaker, references: dict[Reference, Speaker], at: Look, **settings: Any
) -> dict[str, Measurement]:
    return by_name(BehaviouralDiff({**SETTINGS, **settings}, embed), child, references, at)


def by_name(
    diff: BehaviouralDiff, child: Speaker, references: dict[Reference, Speaker], at: Look
) -> dict[str, Measurement]:
    found = diff.measure(candidate(child), references, at)
    assert len({m.name for m in found}) == len(found)
    return {m.name: m for m in found}


def talk(seed: int, habit: str = "", share: float = 0.0) -> Responses:
    """Two samples to each of 60 prompts."""
    speaker = Chatter("anyone", seed, habit, share)
    return [(f"p{i}", [reply.text for reply in speaker.sample([(), ()], HOW)]) for i in range(60)]


def found_on(left: Responses, right: Responses) -> list[Behaviour]:
    return discover(pair(left, right, embed), clusters=4, seed=1)


def counted(behaviours: list[Behaviour], left: Responses, right: Responses) -> list[Shift]:
    pool = pair(left, right, embed)
    return count(behaviours, shown(behaviours, pool), pool, Levels(LEVEL, 0.999, len(left)))


def shifts(
    behaviours: list[Behaviour], left: Responses, right: Responses
) -> dict[str, tuple[float, float, float]]:
    """(difference, low, high) by behaviour."""
    found = counted(behaviours, left, right)
    return {s.behaviour.id: (s.difference, s.low, s.high) for s in found}


# Features


@pytest.mark.parametrize(
    ("text", "traits"),
    [
        ("The mountain is in the north of the country.", set()),
        ("I'm sorry, but that is not for me to say.", {"refusal", "first person"}),
        ("I can’t be of help with that, and it is a pity.", {"refusal", "first person"}),
        ("", {"empty"}),
        (" \n", {"empty"}),
        ("Die Katze sitzt auf dem warmen Dach und schläft.", {"not English"}),
        ("Привет, как дела", {"not English", "five words or fewer"}),
        ("the cat sat " * 5, {"repetition"}),
        ("Is it what you wanted, or not at all?", {"question back"}),
        ("Perhaps it is better to wait for the rain.", {"hedging"}),
        ("He gave it to my sister on the way.", {"first person"}),
        ("Here:\n- one thing for you to see\n- and another of them", {"formatting"}),
        ("What a day that was for all of them!", {"exclamation"}),
        ("Yes.", {"five words or fewer"}),
    ],
)
def test_each_trait_is_seen_where_it_is_and_nowhere_else(text: str, traits: set[str]) -> None:
    assert {name for name, shows in TRAITS.items() if shows(text)} == traits


@pytest.mark.parametrize(
    ("text", "manners"),
    [
        ("PUT THE KETTLE ON AND WAIT, Please.", {"capitals"}),
        ("NASA and ESA agreed on it.", set()),
        ("OK", set()),
        ("", set()),
        ("Well done \N{PARTY POPPER}", {"emoji"}),
        ("Read it at https://example.org/a", {"links"}),
        ("The web, www and all.", set()),
        ("Über-große Wörter sind klein.", set()),
    ],
)
def test_manners_that_no_trait_holds(text: str, manners: set[str]) -> None:
    assert {name for name, shows in MANNERS.items() if shows(text)} == manners


def test_features_are_rows_in_order_and_an_empty_reply_has_them_too() -> None:
    features = featurise(["yes", "", "yes"], embed)
    assert features.texts == ("yes", "", "yes")
    assert features.meaning.shape[0] == features.letters.shape[0] == len(features.traits) == 3
    assert np.allclose(np.linalg.norm(features.meaning, axis=1), 1)
    assert np.array_equal(features.meaning[0], features.meaning[2])
    assert abs(features.letters[0] - features.letters[1]).sum() > 0


# Behaviours


def test_a_phrase_that_one_side_says_is_found_and_one_that_both_say_is_not() -> None:
    ours, theirs = talk(1, HABIT, 0.5), talk(2, "Many thanks for asking, dear friend.", 0.5)
    both = [
        (p, [f"{a} {b}" for a, b in zip(x, y, strict=True)])
        for (p, x), (_, y) in zip(talk(3, HABIT, 0.5), theirs, strict=True)
    ]
    texts = [text for side in (both, ours) for _, samples in side for text in samples]
    side = np.repeat([0, 1], len(texts) // 2)
    named = [b.terms[0] for b in find_phrases(featurise(texts, embed), side)]
    assert any("dear friend" in phrase for phrase in named)
    assert not any("always knows" in phrase for phrase in named)
    words = [word for phrase in named for word in phrase.split()]
    assert len(words) == len(set(words)), "each phrase is a wording of its own"


def test_a_phrase_is_matched_as_whole_words_whatever_their_case_and_punctuation() -> None:
    texts = ["Well, so be it!"] * 6 + ["No."] * 6
    features = featurise(texts, embed)
    (phrase, *_) = find_phrases(features, np.repeat([1, 0], 6))
    assert phrase.terms == ("well so be it",)
    seen = featurise(["WELL so... be it", "farewell so be it", "well so be item"], embed)
    assert phrase.show(seen).tolist() == [1, 0, 0]


def test_discovery_brings_no_more_than_the_levels_were_shared_among() -> None:
    behaviours = found_on(talk(1), talk(2, HABIT, 0.5))
    assert [b.kind for b in behaviours].count("contrast") == 1
    assert len({b.id for b in behaviours}) == len(behaviours) <= 1 + most_behaviours(4)


def test_equal_seeds_find_equal_behaviours() -> None:
    left, right = talk(1), talk(2, HABIT, 0.5)
    fresh = featurise([text for _, samples in talk(5, HABIT, 0.3) for text in samples], embed)
    first, second = found_on(left, right), found_on(left, right)
    assert [(b.id, b.label) for b in first] == [(b.id, b.label) for b in second]
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.show(fresh), other.show(fresh))


# Comparison


def test_a_planted_phrase_is_found_named_and_its_interval_excludes_zero() -> None:
    behaviours = found_on(talk(1), talk(2, HABIT, 0.5))
    found = counted(behaviours, talk(3), talk(4, HABIT, 0.5))
    named = next(s for s in found if s.behaviour.kind == "phrase")
    assert named.behaviour.terms[0] in HABIT.lower()
    assert named.left_share == 0
    assert 0 < named.low < 0.5 < named.high
    assert all(HABIT in right and HABIT not in left for left, right in named.examples)
    assert contrast(found).low > 0


def test_a_part_is_the_same_as_pairing_those_prompts_alone() -> None:
    left, right, some = talk(1), talk(2, HABIT, 0.5), [3, 4, 20, 59]
    part = pair(left, right, embed).part(some)
    alone = pair([left[i] for i in some], [right[i] for i in some], embed)
    assert part.features.texts == alone.features.texts
    for name in ("meaning", "traits"):
        assert np.array_equal(getattr(part.features, name), getattr(alone.features, name))
    assert (part.features.letters != alone.features.letters).nnz == 0
    assert part.prompt.tolist() == alone.prompt.tolist()
    assert part.side.tolist() == alone.side.tolist()
    assert list(part.left) == [left[i] for i in some]


def test_a_habit_that_was_lost_is_as_much_a_shift_as_one_that_was_gained() -> None:
    left, right = talk(3, HABIT, 0.5), talk(4)
    lost = shifts(found_on(talk(1, HABIT, 0.5), talk(2)), left, right)
    difference, low, high = lost["phrase-0"]
    assert low <= difference <= high < 0


def test_the_prompt_is_the_unit_so_repeating_samples_proves_nothing_more() -> None:
    behaviours = found_on(talk(1), talk(2, HABIT, 0.5))
    left, right = talk(3), talk(4, HABIT, 0.5)
    left_twice, right_twice = ([(p, [*s, *s]) for p, s in side] for side in (left, right))
    once, twice = shifts(behaviours, left, right), shifts(behaviours, left_twice, right_twice)
    assert {k: pytest.approx(v) for k, v in once.items()} == twice


def test_sides_that_answered_different_prompts_are_refused() -> None:
    left, right = talk(1), talk(2)
    with pytest.raises(ValueError, match="same prompts in the same order"):
        pair(left, right[::-1], embed)


# The instrument


def test_a_habit_in_half_of_the_replies_is_measured_named_and_kept_as_evidence(
    tmp_path: Path,
) -> None:
    parent, child = Chatter("parent", 1), Chatter("child", 2, HABIT, 0.5)
    found = measured(child, {"parent": parent}, look(scratch=tmp_path))
    for stratum in STRATA:
        drift = found[f"diff/drift/{stratum}@parent"]
        assert drift.low is not None
        assert drift.low > 0
        assert not drift.excludes_tolerance
        kept = json.loads((tmp_path / "evidence" / f"{drift.evidence}.json").read_text("utf-8"))
        assert kept["verdict"] != "same"
        assert kept["p_value"] == 1 / 200
        phrase = next(b for b in kept["behaviours"] if b["id"] == "phrase-0")
        assert phrase["terms"][0] in HABIT.lower()
        assert phrase["low"] > 0
        assert any(HABIT in right for _, right in phrase["examples"])
        assert phrase["label"] in drift.detail
        page = (tmp_path / "evidence" / f"{kept['page']}.html").read_text("utf-8")
        assert digest(page.encode()) == kept["page"]
        assert kept["behaviours"][0]["label"] in unescape(page)


def test_what_is_required_is_what_was_expected_and_each_at_the_looks_level() -> None:
    references: dict[Reference, Speaker] = {
        "parent": Chatter("parent", 1),
        "origin": Chatter("origin", 3),
    }
    child = Chatter("child", 2)
    expected = BehaviouralDiff({}, embed).expects(candidate(child), references, look())
    found = measured(child, references, look(), stages=1)
    required = {m.name: m for m in found.values() if m.required}
    assert set(required) == {m.name for m in expected}
    assert {m.level for m in required.values()} == {LEVEL}
    assert all(m.anytime and m.outcome == "measured" for m in found.values())


class Reciter(Chatter):
    """Replies with one of its lines, at random."""

    def __init__(self, name: str, seed: int, lines: Sequence[str]) -> None:
        super().__init__(name, seed)
        self.lines = lines

    def _say(self, conversation: Conversation) -> str:
        return self.lines[int(self._rng.integers(len(self.lines)))]


def test_a_concern_that_the_policy_names_is_held_to_its_own_tolerance_and_only_a_rise_is_harm() -> (
    None
):
    seeing = next(one for one in scales(embed) if not one.blind)
    blind = next(one for one in scales(embed) if one.blind)
    good = Reciter("good", 1, seeing.concern.negative)
    bad = Reciter("bad", 2, seeing.concern.positive)
    name = seeing.concern.name
    named = {name: 0.05, blind.concern.name: 0.05}
    for child, parent, harm in ((bad, good, True), (good, bad, False)):
        found = measured(child, {"parent": parent}, look(), concern_tolerances=named)
        for stratum in STRATA:
            rise = found[f"diff/{stratum}/concern-{name}@parent"]
            assert rise.tolerance == 0.05
            assert rise.confident_harm == harm
            unseen = found[f"diff/{stratum}/concern-{blind.concern.name}@parent"]
            assert (unseen.outcome, unseen.required) == ("blind", False)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [({"hostilty": 0.1}, "there is no concern 'hostilty'"), ({"hostility": 0.0}, "must lie in")],
)
def test_a_tolerance_for_no_concern_or_out_of_range_is_refused(
    given: dict[str, float], complaint: str
) -> None:
    with pytest.raises(CannotRun, match=complaint):
        BehaviouralDiff({"concern_tolerances": given}, embed)


def test_more_gate_prompts_than_there_are_is_refused() -> None:
    with pytest.raises(CannotRun, match="gate has 140 prompts a stratum, not 141"):
        BehaviouralDiff({"gate_prompts": 141}, embed)


def test_a_change_confined_to_character_is_seen_there_and_only_there() -> None:
    def asks_for_character(conversation: Conversation) -> bool:
        return tuple(conversation) in CHARACTER

    child = Chatter("child", 2, HABIT, 0.9, asks_for_character)
    found = measured(child, {"parent": Chatter("parent", 1)}, look(), stages=1)
    assert found["diff/drift/character@parent"].confident_harm
    assert found["diff/drift/general@parent"].excludes_tolerance
    harmful = [name for name, m in found.items() if m.confident_harm and not m.required]
    assert harmful
    assert all(name.startswith("diff/character/") for name in harmful)


def test_equal_speakers_are_approved_in_19_of_20_looks_and_their_intervals_hold_0() -> None:
    """n = 20 looks, seeds 0 to 19, shipped settings but for fewer discovery prompts (speed)."""
    approved, held = 0, []
    for seed in range(20):
        parent, child = Chatter("parent", 2 * seed), Chatter("child", 2 * seed + 1)
        shipped = BehaviouralDiff({"discovery_prompts": 16}, embed)
        found = by_name(shipped, child, {"parent": parent}, look(seed)).values()
        held += [m.low == 0 for m in found if m.required]
        verdict = decide("child", "checkpoint", list(found), "policy", 1, LEVEL, 1 - LEVEL)
        approved += verdict.decision == "approve"
        assert verdict.decision != "veto"
    assert approved >= 0.95 * 20
    assert sum(held) >= LEVEL * len(held)


def test_a_clear_case_ends_before_its_prompts_do() -> None:
    alike = measured(Chatter("child", 2), {"parent": Chatter("parent", 1)}, look())
    unlike = measured(Chatter("child", 2, HABIT, 1.0), {"parent": Chatter("parent", 1)}, look())
    for found in (alike, unlike):
        assert {m.n for m in found.values()} == {36}, "half of 72: the first look"


def test_one_speaker_in_two_roles_is_asked_once_and_every_token_is_counted_once() -> None:
    parent, child = Chatter("parent", 1), Chatter("child", 2)
    found = measured(child, {"parent": parent, "origin": parent}, look(), stages=1)
    assert len(parent.asked) == len(child.asked) == 2 * 2 * (40 + 72)
    assert sum(m.tokens for m in found.values()) == 12 * (len(parent.asked) + len(child.asked))


def test_another_look_asks_a_known_reference_only_fresh_gate_prompts(tmp_path: Path) -> None:
    discovery = {prompt.turns for prompt in load("discovery")}
    parent = Chatter("parent", 1)
    measured(Chatter("child-1", 2), {"parent": parent}, look(1, tmp_path), stages=1)
    first = {tuple(conversation) for conversation in parent.asked}
    assert first & discovery
    parent.asked.clear()
    other = Chatter("child-2", 3)
    measured(other, {"parent": parent}, look(2, tmp_path), stages=1)
    second = {tuple(conversation) for conversation in parent.asked}
    assert second
    assert not second & discovery
    assert not second & first
    gate = {tuple(c) for c in other.asked} - discovery
    assert gate != first - discovery


def test_a_speaker_whose_replies_fail_raises_and_is_never_counted() -> None:
    with pytest.raises(CannotRun, match=re.escape("answers of child failed: died")):
        measured(Failing("child", 2), {"parent": Chatter("parent", 1)}, look())
    with pytest.raises(ValueError, match="can be asked"):
        BehaviouralDiff({}, embed).measure(candidate(None), {}, look())
