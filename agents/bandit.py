"""Shares the experiment budget over gaps, by the learning progress that past rounds measured.

Each skill is an arm; its reward is *absolute learning progress*, |after − before| on held-out
items, as in teacher–student curriculum learning (Matiisen et al. 2017, arXiv:1707.00183) and
ALP-GMM (Portelas et al. 2019, arXiv:1910.07224): progress earns practice, and so does forgetting.
Progress is drawn from the posterior of both accuracies (Thompson sampling), so a small sample is
explored rather than believed. A share `EXPLORE` of the budget, and of the choices, ignores it.

Skills without history are weighted by p(1 − p), largest where the model succeeds half of the time:
there attempts bring most information, and most verified examples beside most corrections. p is
corrected for guessing, so that a coin tossed over "yes" and "no" is not taken for half a skill.

Does not cover: which experiment is run on a gap (`agents.planner`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regent.records import Gap

EXPLORE = 0.2
RECENCY = 0.5
FLOOR = 0.01


@dataclass(frozen=True)
class Progress:
    """Held-out accuracy of one skill (`environment/skill`) before and after one round.

    `n_before` and `n_after` are the numbers of items behind the two figures.
    """

    skill: str
    round: int
    before: float
    after: float
    n_before: int
    n_after: int


def shares(
    gaps: Sequence[Gap],
    history: Sequence[Progress],
    rng: np.random.Generator,
    *,
    guessing: Mapping[str, float] | None = None,
    width: int = 2,
) -> dict[str, float]:
    """Share of the budget for each gap id; they sum to 1 (to nothing where there is no gap).

    At most `width` skills are worked on in a round (at least two, where two have gaps): examples
    spread over every gap would move none. The best stay; the last place goes, with chance
    `EXPLORE`, to a skill drawn from the others. `guessing` gives the accuracy that guessing
    reaches for each gap id (`agents.profiler.guess_rates`); 0 where it is silent.
    """
    if not gaps:
        return {}
    chance = guessing or {}
    by_skill: dict[str, dict[str, float]] = defaultdict(dict)
    for gap in gaps:
        by_skill[skill_of(gap)][gap.id] = middle(gap.accuracy, chance.get(gap.id, 0.0))
    weights = _skill_weights(by_skill, history, rng)
    chosen = _choose(weights, max(2, width), rng)
    total = sum(weights[skill] for skill in chosen)
    result = {gap.id: 0.0 for gap in gaps}
    for skill in chosen:
        values = by_skill[skill]
        for gap_id, value in values.items():
            result[gap_id] = weights[skill] / total * value / sum(values.values())
    return result


def allocate(shares: Mapping[str, float], experiments: int) -> dict[str, int]:
    """Whole experiments for each gap id, by largest remainder; they sum to `experiments`.

    Ties fall to the gap named first, so equal shares give equal answers.
    """
    total = sum(shares.values())
    if total <= 0:
        return dict.fromkeys(shares, 0)
    exact = {name: experiments * share / total for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    order = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in order[: experiments - sum(counts.values())]:
        counts[name] += 1
    return counts


def middle(accuracy: float, guessing: float = 0.0) -> float:
    """p(1 − p), with a floor so that no gap is out of reach; p is 0 at what guessing reaches."""
    p = max(0.0, (accuracy - guessing) / (1 - guessing)) if guessing < 1 else 0.0
    return max(FLOOR, p * (1 - p))


def skill_of(gap: Gap) -> str:
    """`environment/skill`, the arm that a gap belongs to."""
    return f"{gap.environment}/{gap.skill}"


def _skill_weights(
    by_skill: Mapping[str, Mapping[str, float]],
    history: Sequence[Progress],
    rng: np.random.Generator,
) -> dict[str, float]:
    """Weight of each skill, summing to 1.

    Learning progress and p(1 − p) are in different units, so skills with history and without each
    divide what their number entitles them to among themselves.
    """
    progress = _absolute_progress(history, rng)
    known = {skill: progress[skill] for skill in by_skill if skill in progress}
    fresh = {
        skill: max(values.values()) for skill, values in by_skill.items() if skill not in progress
    }
    weights: dict[str, float] = {}
    for pool in (known, fresh):
        entitled = len(pool) / len(by_skill)
        total = sum(pool.values())
        for skill, value in pool.items():
            earned = value / total if total > 0 else 1 / len(pool)
            weights[skill] = entitled * ((1 - EXPLORE) * earned + EXPLORE / len(pool))
    return {skill: weights[skill] for skill in by_skill}


def _absolute_progress(history: Sequence[Progress], rng: np.random.Generator) -> dict[str, float]:
    """One posterior draw of each skill's absolute learning progress, later rounds weighing more."""
    result: dict[str, float] = {}
    for entry in sorted(history, key=lambda entry: (entry.round, entry.skill)):
        after = _posterior_draw(entry.after, entry.n_after, rng)
        alp = abs(after - _posterior_draw(entry.before, entry.n_before, rng))
        earlier = result.get(entry.skill)
        result[entry.skill] = alp if earlier is None else RECENCY * alp + (1 - RECENCY) * earlier
    return result


def _posterior_draw(accuracy: float, n: int, rng: np.random.Generator) -> float:
    """A draw from Beta(½ + correct, ½ + wrong), the posterior under Jeffreys' prior."""
    return float(rng.beta(0.5 + n * accuracy, 0.5 + n * (1 - accuracy)))


def _choose(weights: Mapping[str, float], width: int, rng: np.random.Generator) -> list[str]:
    order = sorted(weights, key=lambda skill: -weights[skill])
    chosen, others = order[:width], order[width:]
    if others and rng.random() < EXPLORE:
        odds = np.array([weights[skill] for skill in others])
        chosen[-1] = others[int(rng.choice(len(others), p=odds / odds.sum()))]
    return chosen
