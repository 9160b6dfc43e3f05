"""The drift, the largest shift that the diff surely sees, and the word that follows from it.

Both what best tells the sides apart (the *contrast*) and every behaviour that is tested were chosen
on discovery prompts, so on the others the shift of each is a lower bound on the total variation
distance between the sides. `low` is the largest of their lower bounds: the contrast has half of
alpha, the others share the rest (Bonferroni, both directions), and where no other is tested the
contrast has it all. `high` is the largest upper bound of every frozen behaviour, tested or not.

`different` is wrong with probability at most alpha where every shift lies within the tolerance, and
`same` at most alpha where any lies at or beyond it (all must hold: intersection-union, Berger
1982), however often one looks: each bound is anytime-valid.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from supervisor.diffing.behaviours import Behaviour
from supervisor.diffing.comparison import Shift, contrast
from supervisor.statistics.betting import Floats, confidence_sequence

Word = Literal["same", "different", "inconclusive"]


@dataclass(frozen=True)
class Drift:
    """Largest shift as this instrument sees it; `high` bounds every frozen behaviour's. In [0, 1].

    `estimate` and `low` are of the contrast, or of the behaviour `of` that is more surely far from
    zero. Blind, with the whole range as its interval, where there were too few prompts. `examples`:
    answers to the prompts on which the sides part most, left and right.
    """

    estimate: float
    low: float
    high: float
    blind: bool = False
    examples: tuple[tuple[str, str], ...] = ()
    of: Behaviour | None = None


NOT_SEEN = Drift(0.0, 0.0, 1.0, blind=True)


def drift(shifts: Sequence[Shift], tested: Collection[str], alpha: float, horizon: int) -> Drift:
    """The drift of frozen behaviours' `shifts`, of which the contrast is one.

    `tested`: ids of those that may make it, chosen before any of `shifts` was counted. `horizon`:
    prompts planned, as for `shifts`.
    """
    led = contrast(shifts)
    others = [s for s in shifts if s is not led and s.behaviour.id in tested]
    estimate, low = led.difference, led.low
    of: Behaviour | None = None
    if others:
        low = _beyond(led.by_prompt, 1 - alpha / 2, horizon)
        level = 1 - alpha / (4 * len(others))  # half of alpha, two directions each
        for shift in sorted(others, key=_surely, reverse=True):
            if _surely(shift) <= max(0.0, low):
                break  # its bound at the stricter level is lower still
            sign = 1.0 if shift.difference > 0 else -1.0
            bound = _beyond(sign * shift.by_prompt, level, horizon)
            if bound > low:
                estimate, low, of = sign * shift.difference, bound, shift.behaviour
    highest = max(max(shift.high, -shift.low) for shift in shifts)
    estimate = min(1.0, max(0.0, estimate))
    return Drift(
        estimate,
        max(0.0, low),
        min(1.0, max(estimate, highest)),
        examples=led.examples,
        of=of,
    )


def word(seen: Drift, tolerance: float) -> Word:
    """The diff's answer: is the drift surely within the tolerance, surely beyond it, or neither?"""
    if seen.blind:
        return "inconclusive"
    if seen.high <= tolerance:
        return "same"
    return "different" if seen.low > tolerance else "inconclusive"


def _surely(shift: Shift) -> float:
    """By how much it surely differs from zero at its own level, either way."""
    return max(shift.low, -shift.high)


def _beyond(differences: Floats, level: float, horizon: int) -> float:
    return confidence_sequence(differences, -1.0, 1.0, level, horizon)[1]
