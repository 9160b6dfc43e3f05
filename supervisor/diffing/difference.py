"""The diff of two sides, whole: equality, behaviours with shares, drift, and one of three words.

Prompts are split in two. On *discovery* prompts behaviours are found and frozen; on *validation*
prompts they are counted. One that differs by two standard errors on discovery prompts is tested on
the others, and reported where its adjusted p (max-T over all that are tested, labels exchanged
within a prompt) is at most alpha.

`same` says that every frozen behaviour's shift surely lies within the tolerance, `different` that
that of the contrast or of a tested behaviour surely lies beyond it, `inconclusive` anything else
(see `drift`). Blind to what shows on no discovery prompt.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from supervisor.diffing.behaviours import Behaviour
from supervisor.diffing.comparison import (
    Answered,
    Levels,
    Paired,
    Shift,
    apart,
    count,
    discover,
    shown,
)
from supervisor.diffing.concerns import NO_WEIGHT, Scale, Weight, rises, weigh
from supervisor.diffing.drift import NOT_SEEN, Drift, Word, drift, word
from supervisor.diffing.equality import Equality, equality
from supervisor.statistics.permutation import contrast_weights, exchanges, max_adjusted

FEWEST_PROMPTS = 8  # of either part; below, behaviours and drift are blind
_MOST_DISCOVERY = 2_000  # responses a side: more finds little that fewer did not, and costs
_PERMUTATIONS = 999
_CLUSTERS, _PHRASES = 24, 8
_TELLING = 2.0  # standard errors on discovery prompts from which a behaviour is tested on others
_PLAIN = 0.25  # what a behaviour weighs that shows no concern; one that shows it fully weighs 1.25
_CELLS_AT_ONCE = 4_000_000  # exchanges × responses
# Streams of one seed: how prompts are split, exchanges for equality, exchanges for behaviours.
_SPLIT, _EQUALITY, _BEHAVIOURS = 1, 2, 3


@dataclass(frozen=True)
class Finding:
    """One behaviour that was counted, with its p adjusted for all that were, and what it weighs.

    `surprise` is how many half-widths of its own interval the difference lies from zero.
    """

    shift: Shift
    adjusted_p: float
    weight: Weight

    @property
    def surprise(self) -> float:
        half = (self.shift.high - self.shift.low) / 2
        return abs(self.shift.difference) / max(half, 1e-9)

    @property
    def rank(self) -> float:
        """Surprise × concern; what shows no concern still counts a little."""
        return self.surprise * (_PLAIN + self.weight.score)


@dataclass(frozen=True)
class Difference:
    """What the diff says. `behaviours` are those reported, by surprise × concern; `atlas` is every
    region of the lineage's atlas, in order, reported or not.
    """

    verdict: Word
    equality: Equality
    drift: Drift
    tolerance: float
    alpha: float
    behaviours: tuple[Finding, ...]
    counted: int
    n_prompts: int
    n_discovery: int
    n_responses: int
    seed: int
    atlas: tuple[Finding, ...] = ()


def difference(
    pool: Paired,
    *,
    tolerance: float = 0.10,
    alpha: float = 0.05,
    seed: int = 0,
    discovery: Collection[str] | None = None,
    horizon: int | None = None,
    scales: Sequence[Scale] = (),
    extra: Sequence[Behaviour] = (),
    sought: Paired | None = None,
) -> Difference:
    """The diff of two sides, as `comparison.pair` puts them side by side.

    `discovery`: ids of the prompts to find behaviours on; by default a random half. `horizon`: how
    many validation prompts were planned, where this is a look before the end. `scales` of concerns
    weigh the behaviours, and the rise of each that sees is counted; `extra` ones, found on
    discovery prompts by other means, are counted too. `sought`: what behaviours are found on, in
    place of the discovery prompts' responses in `pool`; nothing is counted or tested on it.
    Raises ValueError on a tolerance or an alpha outside (0, 1).
    """
    if not (0 < tolerance < 1 and 0 < alpha < 1):
        raise ValueError(f"tolerance {tolerance} and alpha {alpha} must lie in (0, 1)")
    equal = equality(
        pool.features, pool.prompt, pool.side, np.random.default_rng([seed, _EQUALITY])
    )
    find_on, count_on = split(pool, discovery, seed)
    findings: list[Finding] = []
    seen = NOT_SEEN
    if min(len(find_on), len(count_on)) >= FEWEST_PROMPTS:
        found_on = _alike(sought, pool) if sought else pool.part(find_on)
        found = discover(found_on, clusters=_CLUSTERS, phrases=_PHRASES, seed=seed, deep=True)
        telling = np.abs(apart(shown(found, found_on), found_on)) >= _TELLING
        kept = [b for b, tells in zip(found, telling, strict=True) if tells or b.kind != "sentence"]
        asked = [*extra, *rises(scales)]
        tested = {b.id for b, tells in zip(found, telling, strict=True) if tells}
        tested |= {b.id for b in asked}
        levels = Levels(1 - alpha, 1 - alpha, max(horizon or 0, len(count_on)))
        findings = find([*kept, *asked], pool, levels, seed, scales, tested, count_on)
        seen = drift([finding.shift for finding in findings], tested, alpha, levels.horizon)
    return Difference(
        word(seen, tolerance),
        equal,
        seen,
        tolerance,
        alpha,
        reported(findings, alpha),
        len(findings),
        len(pool.left),
        len(find_on),
        len(pool.side),
        seed,
        tuple(finding for finding in findings if finding.shift.behaviour.kind == "atlas"),
    )


def find(
    behaviours: Sequence[Behaviour],
    pool: Paired,
    levels: Levels,
    seed: int,
    scales: Sequence[Scale] = (),
    tested: Collection[str] | None = None,
    prompts: Sequence[int] | None = None,
) -> list[Finding]:
    """Every frozen behaviour as counted on `pool`, with its adjusted p and what it weighs.

    `tested`: ids of those that are tested, chosen before `pool` was looked at; the p of the others
    is 1. By default all are. `prompts`: places of those to count on, ascending; by default all.
    """
    counted, rows = pool.among(range(len(pool.left)) if prompts is None else prompts)
    # Looked up in the whole pool: its features, of many responses, are too large to copy a part.
    shows = shown(behaviours, pool)[rows]
    scores = [one.score(pool.features)[rows] for one in scales]
    named = [one.named(pool.features)[rows] for one in scales]
    shifts = count(behaviours, shows, counted, levels)
    places = [i for i, b in enumerate(behaviours) if tested is None or b.id in tested]
    adjusted = np.ones(len(behaviours))
    if places:
        rng = np.random.default_rng([seed, _BEHAVIOURS])
        adjusted[places] = _adjusted(shows[:, places], counted, rng)
    return [
        Finding(
            shift,
            float(p),
            _weight(shift, column, scales, scores, named),
        )
        for shift, p, column in zip(shifts, adjusted, shows.T, strict=True)
    ]


def _weight(
    shift: Shift,
    shows: NDArray[np.float64],
    scales: Sequence[Scale],
    scores: Sequence[NDArray[np.float64]],
    named: Sequence[NDArray[np.float64]],
) -> Weight:
    if shift.difference <= 0:  # what the right side shows less often is no concern about it
        return NO_WEIGHT
    if shift.behaviour.kind == "concern":
        return Weight(shift.behaviour.id.removeprefix("concern-"), shift.difference)
    return weigh(shows, scales, scores, named)


def reported(findings: Sequence[Finding], alpha: float) -> tuple[Finding, ...]:
    """Those that differ after adjustment for all, by surprise × concern; not the contrast.

    Of a cluster and the groups that hold it, only the first by rank.
    """
    differ = [f for f in findings if f.adjusted_p <= alpha and f.shift.behaviour.kind != "contrast"]
    kept: list[Finding] = []
    for finding in sorted(differ, key=lambda f: (-f.rank, f.shift.behaviour.id)):
        parts = finding.shift.behaviour.parts
        if not any(parts & other.shift.behaviour.parts for other in kept):
            kept.append(finding)
    return tuple(kept)


def split(
    pool: Paired, discovery: Collection[str] | None, seed: int
) -> tuple[list[int], list[int]]:
    """Places of discovery and of validation prompts, each ascending: those whose ids are in
    `discovery`, or else a random half.
    """
    left, right = pool.left, pool.right
    if discovery is not None:
        find_on = [i for i, (name, _) in enumerate(left) if name in discovery]
        return find_on, [i for i, (name, _) in enumerate(left) if name not in discovery]
    order = np.random.default_rng([seed, _SPLIT]).permutation(len(left))
    spent, taken = 0, 0
    for index in order[: len(left) // 2]:
        spent += max(len(left[index][1]), len(right[index][1]))
        if spent > _MOST_DISCOVERY and taken >= FEWEST_PROMPTS:
            break
        taken += 1
    return sorted(int(i) for i in order[:taken]), sorted(int(i) for i in order[taken:])


def _alike(sought: Paired, pool: Paired) -> Paired:
    """`sought`, without sentences where `pool` has none to count them in."""
    if pool.features.sentences is not None:
        return sought
    return replace(sought, features=replace(sought.features, sentences=None))


def _adjusted(
    shows: NDArray[np.float64], pool: Answered, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Two-sided max-T p of each behaviour. `shows`: [n, K]."""
    prompt, weights = pool.prompt, contrast_weights(pool.prompt, pool.side)
    null = []
    at_once = max(1, _CELLS_AT_ONCE // len(prompt))
    for begin in range(0, _PERMUTATIONS, at_once):
        rows = min(at_once, _PERMUTATIONS - begin)
        null.append(np.abs(weights[exchanges(prompt, rng, rows)] @ shows))
    return max_adjusted(np.abs(weights @ shows), np.concatenate(null))
