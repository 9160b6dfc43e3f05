"""Measures what a checkpoint can do, node by node of the skill tree, and finds its gaps.

A gap is a node confidently below target (the exact interval's upper bound lies under it) in two
independent splits, yet learnable (some attempt succeeded in either). Measuring twice matters: the
nodes that look worst in one split look so partly by chance, and the second split, on fresh items,
is also the one whose figures the gap reports.

Does not cover: skills that no environment offers, and a skill at which every attempt failed, which
is no gap until some attempt succeeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from environments.registry import environment
from environments.skills import ItemResult, Node, Split, examine, items
from regent.config import ProfileConfig
from regent.models.speaker import Speaker
from regent.records import CapabilityProfile, Gap, SkillEstimate
from supervisor.statistics.exact import clopper_pearson


def profile(
    speaker: Speaker,
    nodes: Sequence[Node],
    config: ProfileConfig,
    checkpoint_id: str,
    seed: int,
    split: Split = "profile",
    *,
    temperature: float = 0.0,
) -> tuple[CapabilityProfile, list[ItemResult]]:
    """Accuracy of `speaker` on fresh items of every node, and every single result.

    The split "confirm" draws `config.confirm_items` a node, any other `config.items`. All nodes
    are asked in one call, so that the engine is kept busy.
    """
    n = config.confirm_items if split == "confirm" else config.items
    refs = [ref for node in nodes for ref in items(node, n, seed, split)]
    results = examine(speaker, refs, temperature=temperature)
    skills = tuple(estimate(node, results, config.confidence) for node in nodes)
    return (
        CapabilityProfile(
            parents=(checkpoint_id,),
            checkpoint=checkpoint_id,
            split=split,
            seed=seed,
            skills=skills,
        ),
        results,
    )


def estimate(node: Node, results: Sequence[ItemResult], confidence: float) -> SkillEstimate:
    """Accuracy at `node` with its two-sided exact interval.

    A reply that failed (`score` None) is missing, never wrong: n shrinks. With no reply at all,
    n is 0, the interval is [0, 1] and `estimate` its middle, which measures nothing.
    """
    replied = [
        result
        for result in results
        if result.score is not None
        and Node(result.ref.environment, result.ref.skill, result.ref.level) == node
    ]
    n, correct = len(replied), sum(result.correct for result in replied)
    accuracy, low, high = clopper_pearson(correct, n, confidence) if n else (0.5, 0.0, 1.0)
    return SkillEstimate(
        environment=node.environment,
        skill=node.skill,
        level=node.level,
        n=n,
        correct=correct,
        estimate=accuracy,
        low=low,
        high=high,
    )


def suspects(measured: CapabilityProfile, config: ProfileConfig) -> list[Node]:
    """Nodes confidently below target in one split: those worth measuring again."""
    return [_node(skill) for skill in measured.skills if _below(skill, config)]


def confirm(
    first: SkillEstimate,
    second: SkillEstimate,
    config: ProfileConfig,
    parents: tuple[str, ...] = (),
) -> Gap | None:
    """The gap that two independent measurements of one node agree on, or None.

    Its accuracy, interval and n are the second measurement's: the first selected the node, so its
    figures are biased towards low.
    """
    learnable = first.correct + second.correct >= 1
    if not (learnable and _below(first, config) and _below(second, config)):
        return None
    return Gap(
        parents=parents,
        environment=second.environment,
        skill=second.skill,
        level=second.level,
        accuracy=second.estimate,
        low=second.low,
        high=second.high,
        target=config.target,
        n=second.n,
    )


def gaps(
    measured: CapabilityProfile, confirm_profile: CapabilityProfile, config: ProfileConfig
) -> list[Gap]:
    """Every gap that both profiles agree on, in the order of the second."""
    first = {_node(skill): skill for skill in measured.skills}
    parents = (measured.id, confirm_profile.id)
    found = (
        confirm(first[_node(second)], second, config, parents)
        for second in confirm_profile.skills
        if _node(second) in first
    )
    return [gap for gap in found if gap is not None]


def no_gap(measured: CapabilityProfile, config: ProfileConfig) -> str:
    """Why a profile led to no gap, and what would change that, in a line."""
    unsure = sum(not _below(skill, config) for skill in measured.skills)
    return (
        f"no gap among {len(measured.skills)} skills: on {config.items} items each, {unsure} are "
        f"not surely below the target of {config.target:.0%}, and the others had no right answer "
        "to learn from or were not confirmed; raise profile.items, or choose other skills"
    )


def guess_rates(found: Sequence[Gap], seed: int, n: int = 32) -> dict[str, float]:
    """For each gap id, how often saying the commonest answer would be right, on training tasks.

    Where half of the answers are "yes", an accuracy of one half shows no skill: the bandit
    corrects for it. Does not see other guessing, such as picking a candidate named in the prompt.
    """
    rates: dict[str, float] = {}
    for gap in found:
        refs = items(Node(gap.environment, gap.skill, gap.level), n, seed, "train")
        answers = Counter(environment(gap.environment).solution(ref) for ref in refs)
        # A commonest answer seen once or twice is chance of the sample, not a way to guess.
        most = max(answers.values(), default=0)
        rates[gap.id] = most / len(refs) if most > 2 else 0.0
    return rates


def _node(skill: SkillEstimate) -> Node:
    return Node(skill.environment, skill.skill, skill.level)


def _below(skill: SkillEstimate, config: ProfileConfig) -> bool:
    return skill.n > 0 and skill.high < config.target
