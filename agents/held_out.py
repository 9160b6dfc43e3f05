"""What training gave on items that it never saw: accuracy before and after, paired by item.

The held-out split is fresh for each round and no other station draws from it. Both sides answer
the same items, so the difference and its interval are those of paired answers.

Does not cover: skills that were not trained on; the supervisor's capability instrument has those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from environments.skills import Node, examine, items
from regent.models.speaker import Speaker
from supervisor.statistics.exact import paired_difference

# A skill: a rise of 20 points, with 34 to 44 % of the items answered otherwise than before, then
# excludes zero in 85 to 94 % of rounds (simulated); with 48 items in 58 to 71 %.
ITEMS = 96
Scores = dict[str, list[float]]


def held_out(speaker: Speaker, targets: Sequence[Node], seed: int) -> tuple[Scores, int]:
    """`speaker` on `ITEMS` fresh items a node.

    Returns 1.0 right, 0.0 wrong or NaN where no reply came, by `environment/skill`; and tokens.
    """
    refs = [ref for node in targets for ref in items(node, ITEMS, seed, "held_out")]
    results = examine(speaker, refs)
    scores: Scores = {}
    for result in results:
        name = f"{result.ref.environment}/{result.ref.skill}"
        right = np.nan if result.score is None else float(result.correct)
        scores.setdefault(name, []).append(right)
    return scores, sum(result.tokens for result in results)


def gains(
    before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]]
) -> dict[str, dict[str, float]]:
    """By skill: accuracy `before` and `after`, 95 % interval of the difference, and `n`.

    Items that either side left unanswered are dropped; a skill without any other is left out.
    Paired: Tango's score interval (supervisor.statistics.exact.paired_difference).
    """
    found = {}
    for skill in sorted(before):
        left, right = np.asarray(before[skill]), np.asarray(after[skill])
        both = ~(np.isnan(left) | np.isnan(right))
        left, right, n = left[both], right[both], int(both.sum())
        if not n:
            continue
        lost = int(((left == 1) & (right == 0)).sum())
        won = int(((left == 0) & (right == 1)).sum())
        _, low, high = paired_difference(lost, won, n, 0.95)
        found[skill] = {
            "before": float(left.mean()),
            "after": float(right.mean()),
            "low": low,
            "high": high,
            "n": n,
        }
    return found
