"""A gap is a node confidently below target in two independent splits, yet learnable.

A reply that never came is missing, not wrong; the gap reports the fresh split's figures.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from scipy import stats

from agents.profiler import confirm, gaps, guess_rates, profile, suspects
from environments.registry import environment
from environments.skills import Node, Split, items
from regent.config import ProfileConfig
from regent.models.speaker import Conversation, Reply, Sampling
from regent.records import CapabilityProfile, Gap, SkillEstimate

CONFIG = ProfileConfig(items=12, confirm_items=16, target=0.8, confidence=0.95)
NODES = [Node("reasoning", "chain_sum", 0), Node("reasoning", "spell_backward", 0)]


class Scripted:
    """Knows the answers of the items in a split; may be wrong or silent on chosen turns."""

    name = "scripted"
    can = frozenset({"sample"})

    def __init__(self, seed: int, wrong: int = 0, silent: int = 0) -> None:
        self.seed, self.wrong, self.silent = seed, wrong, silent
        self.asked = 0

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        return [self._reply(conversation) for conversation in conversations]

    def _reply(self, conversation: Conversation) -> Reply:
        self.asked += 1
        if self.asked <= self.silent:
            return Reply("", finish="error", error="timed out")
        if self.asked <= self.silent + self.wrong:
            return Reply("no idea at all")
        return Reply(self._answers()[conversation[-1].content])

    def _answers(self) -> dict[str, str]:
        world = environment("reasoning")
        sizes: dict[Split, int] = {"profile": 12, "confirm": 16}
        refs = [
            ref
            for node in NODES
            for split, n in sizes.items()
            for ref in items(node, n, self.seed, split)
        ]
        return {world.task(ref).messages[-1].content: world.solution(ref) for ref in refs}


def measured(*counts: tuple[int, int], split: str = "profile") -> CapabilityProfile:
    """A profile of NODES with these (correct, n)."""
    skills = []
    for node, (correct, n) in zip(NODES, counts, strict=False):
        interval = stats.binomtest(correct, n).proportion_ci(0.95, "exact") if n else None
        skills.append(
            SkillEstimate(
                environment=node.environment,
                skill=node.skill,
                level=node.level,
                n=n,
                correct=correct,
                estimate=correct / n if n else 0.5,
                low=float(interval.low) if interval else 0.0,
                high=float(interval.high) if interval else 1.0,
            )
        )
    return CapabilityProfile(checkpoint="c", split=split, seed=0, skills=tuple(skills))


def test_the_interval_is_the_exact_binomial_one() -> None:
    found, results = profile(Scripted(3, wrong=5), NODES[:1], CONFIG, "c0", seed=3)
    (skill,) = found.skills
    oracle = stats.binomtest(7, 12).proportion_ci(0.95, "exact")
    assert (skill.n, skill.correct) == (12, 7)
    assert (skill.low, skill.high) == pytest.approx((oracle.low, oracle.high))
    assert len(results) == 12
    assert found.parents == ("c0",)


def test_a_failed_reply_is_missing_and_never_wrong() -> None:
    found, _ = profile(Scripted(3, silent=5), NODES[:1], CONFIG, "c0", seed=3)
    (skill,) = found.skills
    assert (skill.n, skill.correct, skill.estimate) == (7, 7, 1.0)


def test_a_node_without_any_reply_is_unknown_and_no_suspect() -> None:
    found, _ = profile(Scripted(3, silent=99), NODES[:1], CONFIG, "c0", seed=3)
    (skill,) = found.skills
    assert (skill.n, skill.low, skill.high) == (0, 0.0, 1.0)
    assert suspects(found, CONFIG) == []


def test_the_confirming_split_shares_no_item_and_has_its_own_size() -> None:
    _, first = profile(Scripted(3), NODES[:1], CONFIG, "c0", seed=3)
    _, second = profile(Scripted(3), NODES[:1], CONFIG, "c0", seed=3, split="confirm")
    assert len(second) == 16
    assert not {result.ref for result in first} & {result.ref for result in second}


def test_equal_seeds_give_equal_profiles_and_other_seeds_other_items() -> None:
    one, one_results = profile(Scripted(3, wrong=4), NODES, CONFIG, "c0", seed=3)
    again, _ = profile(Scripted(3, wrong=4), NODES, CONFIG, "c0", seed=3)
    _, other_results = profile(Scripted(4, wrong=4), NODES, CONFIG, "c0", seed=4)
    assert one.id == again.id
    assert {r.ref for r in one_results} != {r.ref for r in other_results}


def test_only_nodes_confidently_below_target_are_suspected() -> None:
    # 9 of 12 is below 0.8, but its upper bound is not.
    assert suspects(measured((2, 12), (9, 12)), CONFIG) == [NODES[0]]


@pytest.mark.parametrize(
    ("first", "second", "is_gap"),
    [
        ((2, 12), (3, 16), True),
        ((2, 12), (15, 16), False),
        ((11, 12), (3, 16), False),
        ((0, 12), (0, 16), False),
        ((1, 12), (0, 16), True),
        ((0, 12), (1, 16), True),
        ((2, 12), (0, 0), False),
    ],
)
def test_a_gap_is_below_target_twice_and_learnable_once(
    first: tuple[int, int], second: tuple[int, int], is_gap: bool
) -> None:
    one, two = measured(first).skills[0], measured(second).skills[0]
    assert (confirm(one, two, CONFIG) is not None) == is_gap


def test_a_gap_reports_the_fresh_split_and_names_both_profiles() -> None:
    first, second = measured((1, 12), (2, 12)), measured((4, 16), split="confirm")
    (gap,) = gaps(first, second, CONFIG)
    assert (gap.accuracy, gap.n, gap.target) == (0.25, 16, 0.8)
    assert gap.parents == (first.id, second.id)
    assert gaps(first, measured(split="confirm"), CONFIG) == []


def test_guessing_is_seen_where_the_answers_are_few() -> None:
    def gap(skill: str) -> Gap:
        return Gap(
            environment="reasoning", skill=skill, level=0,
            accuracy=0.5, low=0.3, high=0.7, target=0.8, n=32,
        )  # fmt: skip

    yes_or_no, open_ended = gap("syllogism"), gap("spell_backward")
    rates = guess_rates([yes_or_no, open_ended], seed=1)
    assert rates[yes_or_no.id] >= 0.5
    assert rates[open_ended.id] < 0.1
