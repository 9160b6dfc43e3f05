"""Capability: a fall beyond the margin is seen, and what could not be seen is said to be blind.

1. Off the trained skills nothing may surely fall; a skill at its floor says nothing, and is named.
2. Trained skills are judged apart: they neither make up for a fall elsewhere nor hide one there.
3. Every item is asked once; a failed reply is no wrong answer.

The items are the reasoning environment's own; the speakers are scripted to be right or wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from environments.registry import environment
from environments.skills import items, node_named
from regent.models.speaker import Conversation, Reply, Sampling, Speaker
from regent.records import Checkpoint, Measurement, Reference
from supervisor.capability import Capability
from supervisor.instrument import Candidate, Look
from supervisor.policy import decide
from supervisor.statistics.betting import confidence_sequence

SKILLS = ("reasoning/chain_sum/0", "reasoning/products/0", "reasoning/gcd/0")
CHAIN, PRODUCTS, GCD = (name.rsplit("/", 1)[0] for name in SKILLS)
LEVEL = 1 - 0.05 * 6 / np.pi**2  # what the first look of a run is held to
SEED, OTHER_SEED = 7, 8
MOST = 120
SETTINGS = {
    "items": 240, "stages": 3, "target_items": 40, "margin": 0.1, "skill_margin": 0.2,
    "calibration_items": 16, "calibration_correct": 2,
}  # fmt: skip


def _answer_book() -> dict[str, tuple[str, str]]:
    """Skill and right answer by prompt, over every item that these tests can draw."""
    world, book = environment("reasoning"), dict[str, tuple[str, str]]()
    for node in map(node_named, SKILLS):
        drawn = items(node, 16, 0, "tuning")
        for seed in (SEED, OTHER_SEED):
            drawn += items(node, MOST, seed, "gate")
        for ref in drawn:
            book[world.task(ref).messages[-1].content] = (node.skill_name, world.solution(ref))
    return book


BOOK = _answer_book()


class Pupil:
    """Right with `ability` on each skill, 1.0 where it is not named."""

    can = frozenset({"sample"})

    def __init__(self, name: str, seed: int = 0, **ability: float) -> None:
        self.name = name
        self.asked: list[str] = []
        self.ability = {f"reasoning/{skill}": value for skill, value in ability.items()}
        self._rng = np.random.default_rng(seed)

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        assert how.temperature == 0
        return [self._reply(conversation[-1].content) for conversation in conversations]

    def _reply(self, prompt: str) -> Reply:
        self.asked.append(prompt)
        skill, answer = BOOK[prompt]
        right = self._rng.random() < self.ability.get(skill, 1.0)
        return Reply(answer if right else "no idea", prompt_tokens=9, completion_tokens=1)


def measured(
    child: Speaker,
    references: dict[Reference, Speaker],
    targets: tuple[str, ...] = (),
    scratch: Path | None = None,
    seed: int = SEED,
) -> dict[str, Measurement]:
    look = Look(number=1, level=LEVEL, seed=seed, targets=targets, skills=SKILLS, scratch=scratch)
    subject = Checkpoint(round=1, name="r1", digest="d")
    candidate = Candidate("checkpoint", checkpoint=subject, speaker=child)
    instrument = Capability(SETTINGS)
    found = {m.name: m for m in instrument.measure(candidate, references, look)}
    expected = {m.name for m in instrument.expects(candidate, references, look)}
    assert {m.name for m in found.values() if m.required} == expected
    return found


def decision(found: dict[str, Measurement]) -> str:
    return decide("r1", "checkpoint", list(found.values()), "p", 1, LEVEL, 1 - LEVEL).decision


OFF_TARGET = "capability/off_target@parent"


def test_an_equal_is_approved() -> None:
    found = measured(Pupil("child", 1, gcd=0.8), {"parent": Pupil("parent", 2, gcd=0.8)})
    off_target = found[OFF_TARGET]
    assert off_target.excludes_tolerance
    assert off_target.level == LEVEL
    assert decision(found) == "approve"


def test_a_fall_beyond_the_margin_is_seen_and_vetoed_after_a_third_of_the_items() -> None:
    child = Pupil("child", chain_sum=0.2, products=0.2, gcd=0.2)
    found = measured(child, {"parent": Pupil("parent")})
    assert found[OFF_TARGET].confident_harm
    assert found[OFF_TARGET].n == len(child.asked) == 80
    assert decision(found) == "veto"


def test_a_fall_that_straddles_the_margin_is_neither_approved_nor_vetoed() -> None:
    child = Pupil("child", 1, chain_sum=0.88, products=0.88, gcd=0.88)
    found = measured(child, {"parent": Pupil("parent")})
    assert found[OFF_TARGET].n == 240
    assert decision(found) == "quarantine"


def test_a_fall_in_one_skill_is_named_whatever_the_others_gain() -> None:
    parent = Pupil("parent", chain_sum=0.5, products=0.5)
    found = measured(Pupil("child", gcd=0.1), {"parent": parent})
    assert found[OFF_TARGET].excludes_tolerance
    harmful = [name for name, m in found.items() if m.confident_harm]
    assert harmful == [f"capability/skill/{GCD}@parent"]
    assert decision(found) == "veto"


def test_the_origin_is_a_reference_of_its_own() -> None:
    slipped = {"chain_sum": 0.7, "products": 0.7, "gcd": 0.7}
    parent, origin = Pupil("parent", 1, **slipped), Pupil("origin")
    found = measured(Pupil("child", 2, **slipped), {"parent": parent, "origin": origin})
    assert found[OFF_TARGET].excludes_tolerance
    assert found["capability/off_target@origin"].confident_harm


def test_all_skills_at_their_floor_are_blind_and_no_gate_item_is_asked() -> None:
    nothing = {"chain_sum": 0.0, "products": 0.0, "gcd": 0.0}
    child, origin = Pupil("child", 1, **nothing), Pupil("origin", 2, **nothing)
    found = measured(child, {"parent": Pupil("parent"), "origin": origin})
    assert {m.outcome for m in found.values()} == {"blind"}
    assert decision(found) == "quarantine"
    assert child.asked == []
    assert len(origin.asked) == 3 * 16


def test_a_skill_at_its_floor_is_left_out_and_said_to_be_unseen() -> None:
    child = Pupil("child", gcd=0.0)
    found = measured(child, {"parent": Pupil("parent", gcd=0.0)})
    assert found[OFF_TARGET].excludes_tolerance
    assert "unseen: reasoning/gcd/0" in found[OFF_TARGET].detail
    assert GCD not in {BOOK[prompt][0] for prompt in child.asked}
    unseen = found[f"capability/skill/{GCD}@parent"]
    assert (unseen.outcome, unseen.required) == ("blind", False)


def test_a_skill_that_could_not_be_seen_is_named_by_the_verdict_that_approves() -> None:
    found = measured(Pupil("child", gcd=0.0), {"parent": Pupil("parent", gcd=0.0)})
    verdict = decide("s", "checkpoint", list(found.values()), "p", 1, LEVEL, 0.03)
    assert verdict.decision == "approve"
    assert verdict.silent == (f"capability/skill/{GCD}@parent",)


def test_a_gain_on_the_trained_skill_does_not_make_up_for_a_fall_elsewhere() -> None:
    parent, child = Pupil("parent", gcd=0.0), Pupil("child", chain_sum=0.4, products=0.4)
    found = measured(child, {"parent": parent}, targets=(GCD,))
    assert found["capability/on_target@parent"].estimate == 1.0
    assert found[OFF_TARGET].confident_harm
    assert GCD not in found[OFF_TARGET].detail


def test_a_fall_on_the_trained_skill_vetoes() -> None:
    found = measured(Pupil("child", gcd=0.2), {"parent": Pupil("parent")}, targets=(GCD,))
    assert found[OFF_TARGET].excludes_tolerance
    assert [m.name for m in found.values() if m.confident_harm] == ["capability/on_target@parent"]
    assert decision(found) == "veto"


def test_a_fall_on_the_trained_skill_vetoes_even_if_every_other_skill_is_at_its_floor() -> None:
    nothing = {"chain_sum": 0.0, "products": 0.0}
    parent, child = Pupil("parent", 1, **nothing), Pupil("child", 2, gcd=0.2, **nothing)
    found = measured(child, {"parent": parent}, targets=(GCD,))
    assert found[OFF_TARGET].outcome == "blind"
    assert decision(found) == "veto"
    assert sum(m.tokens for m in found.values()) == 10 * (len(parent.asked) + len(child.asked))


def test_the_bets_are_tuned_to_the_items_planned_and_not_to_where_it_stopped() -> None:
    """A horizon that is read off the outcome would void the anytime-valid bounds."""
    found = measured(Pupil("child"), {"parent": Pupil("parent")})
    one = found[f"capability/skill/{GCD}@parent"]
    assert found[OFF_TARGET].n == 80, "it stopped at the first of three stages"
    assert one.level is not None
    planned, stopped = (
        confidence_sequence(np.zeros(one.n), -1.0, 1.0, one.level, n) for n in (80, one.n)
    )
    assert (one.estimate, one.low, one.high) == planned != stopped


def test_items_are_kept_and_not_asked_twice(tmp_path: Path) -> None:
    parent, child = Pupil("parent", 1, gcd=0.6), Pupil("child", 2, gcd=0.6)
    first = measured(child, {"parent": parent}, scratch=tmp_path)
    assert len(parent.asked) == len(set(parent.asked))
    asked = (len(parent.asked), len(child.asked))
    assert sum(m.tokens for m in first.values()) == 10 * sum(asked)
    again = measured(child, {"parent": parent}, scratch=tmp_path)
    assert (len(parent.asked), len(child.asked)) == asked
    assert again[OFF_TARGET].estimate == first[OFF_TARGET].estimate
    assert sum(m.tokens for m in again.values()) == 0


def test_another_look_asks_fresh_items_and_no_calibration_item_again(tmp_path: Path) -> None:
    world = environment("reasoning")
    calibration = {
        world.task(ref).messages[-1].content
        for node in map(node_named, SKILLS)
        for ref in items(node, 16, 0, "tuning")
    }
    parent = Pupil("parent")
    measured(Pupil("child-1"), {"parent": parent}, scratch=tmp_path)
    first = parent.asked[48:]
    assert set(parent.asked[:48]) == calibration
    parent.asked.clear()
    child = Pupil("child-2")
    measured(child, {"parent": parent}, scratch=tmp_path, seed=OTHER_SEED)
    assert set(parent.asked) == set(child.asked) != set(first)
    assert calibration.isdisjoint(parent.asked)


def test_a_failed_reply_raises_and_is_never_a_wrong_answer(tmp_path: Path) -> None:
    class Dying(Pupil):
        def _reply(self, prompt: str) -> Reply:
            reply = super()._reply(prompt)
            return Reply("", "error", error="died") if len(self.asked) == 70 else reply

    parent, child = Pupil("parent"), Dying("child")
    with pytest.raises(RuntimeError, match=re.escape("1 of 80 answers of child failed")):
        measured(child, {"parent": parent}, scratch=tmp_path)
    found = measured(child, {"parent": parent}, scratch=tmp_path)
    assert found[OFF_TARGET].estimate == 0
    assert len(child.asked) == 80 + found[OFF_TARGET].n


def test_a_checkpoint_that_cannot_be_asked_raises() -> None:
    nobody = Candidate("checkpoint", checkpoint=Checkpoint(round=1, name="r1", digest="d"))
    with pytest.raises(ValueError, match="can be asked"):
        Capability().measure(nobody, {}, Look(number=1, level=LEVEL, seed=1))
