"""The white-box channel: how far two models' next tokens part, where, and a bound on any behaviour.

Along replies that one side sampled, the KL divergence of the sides' next tokens is summed: its mean
is the KL of whole replies, per prompt (chain rule). The shift in share of *any* behaviour, named or
not, is at most the total variation, which is at most sqrt(1 − exp(−KL)) (Bretagnolle & Huber 1979)
and at most sqrt(KL / 2) (Pinsker); both are concave in KL, so the mean over prompts may be taken
inside (Jensen). Either direction of KL bounds it; the smaller bound counts.

Covers the sampled tokens at temperature 1 on the prompts asked. The interval of the mean KL is a
bootstrap over prompts: approximate, and blind to a rare prompt that was not asked. The bound is
often near 1 after real training: then it says nothing, and the behaviours do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from supervisor.diffing.behaviours import Behaviour, says

if TYPE_CHECKING:
    from regent.models.side_by_side import TokenDivergence

Floats = NDArray[np.float64]
_RESAMPLES = 1_000
_CONTEXT = 8  # tokens before a place
_PLACES, _TOKENS = 10, 12  # reported
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class Place:
    """Where the sides part: what was said before, the token said, the one that the other raises."""

    before: str
    said: str
    instead: str
    nats: float


@dataclass(frozen=True)
class Inside:
    """`nats`: mean KL of a whole reply, left ‖ right and right ‖ left. `bound`: what no behaviour's
    shift exceeds, at the estimates; `high`: at the upper 95 % limits. In [0, 1].
    `tokens`: what the right side raises most, with the probability gained over all places.
    """

    nats: tuple[float, float]
    nats_a_token: tuple[float, float]
    bound: float
    high: float
    places: tuple[Place, ...]
    tokens: tuple[tuple[str, float], ...]


def inside(
    left: Sequence[TokenDivergence], right: Sequence[TokenDivergence], rng: np.random.Generator
) -> Inside:
    """`left`: along the left side's replies, one a prompt; `right`: along the right side's.

    Raises ValueError where either is empty.
    """
    if not left or not right:
        raise ValueError("no reply was compared: give at least one of each side")
    whole = [np.array([float(one.nats.sum()) for one in side]) for side in (left, right)]
    each = [
        float(sum(one.nats.sum() for one in side) / sum(len(one.nats) for one in side))
        for side in (left, right)
    ]
    # Each limit at 97.5 %, so that the smaller of the two holds at 95 %.
    limits = [_limit(values, rng) for values in whole]
    return Inside(
        (float(whole[0].mean()), float(whole[1].mean())),
        (each[0], each[1]),
        min(shift_bound(float(values.mean())) for values in whole),
        min(map(shift_bound, limits)),
        _places(left),
        _risen(left),
    )


def shift_bound(nats: float) -> float:
    """The largest total variation that a KL of `nats` allows: Bretagnolle–Huber or Pinsker."""
    if nats < 0:
        raise ValueError(f"a KL divergence is not negative: {nats}")
    return float(min(np.sqrt(-np.expm1(-nats)), np.sqrt(nats / 2), 1.0))


def mined(found: Inside, most: int = 4) -> list[Behaviour]:
    """Behaviours for the discovery: the words that the right side raises most."""
    words: list[str] = []
    for token, _ in found.tokens:
        word = token.strip().lower()
        if _WORD.fullmatch(word) and word not in words:
            words.append(word)
    return [
        Behaviour(f"mined-{i}", f"says “{word}”", "phrase", says(word), (word,))
        for i, word in enumerate(words[:most])
    ]


def _limit(values: Floats, rng: np.random.Generator) -> float:
    picks = rng.integers(len(values), size=(_RESAMPLES, len(values)))
    return float(np.quantile(values[picks].mean(axis=1), 0.975))


def _places(side: Sequence[TokenDivergence]) -> tuple[Place, ...]:
    """The single places of most divergence, at most one a reply."""
    found = []
    for one in side:
        at = int(np.argmax(one.nats))
        before = _text(one.tokens[max(0, at - _CONTEXT) : at])
        nats = float(one.nats[at])
        found.append(Place(before, _text([one.tokens[at]]), one.gains[at][0], nats))
    return tuple(sorted(found, key=lambda place: -place.nats)[:_PLACES])


def _risen(side: Sequence[TokenDivergence]) -> tuple[tuple[str, float], ...]:
    total: Counter[str] = Counter()
    for one in side:
        for token, rise in one.gains:
            total[token] += rise  # type: ignore[assignment]
    return tuple((token, float(rise)) for token, rise in total.most_common(_TOKENS))


def _text(tokens: Sequence[str]) -> str:
    """Byte-level tokens as a reader sees them."""
    return "".join(tokens).replace("Ġ", " ").replace("Ċ", "⏎")
