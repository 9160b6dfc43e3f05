"""Can the gate decide at the shipped sample sizes? Approval probabilities by simulation.

    python -m benchmarks.power [--quick] [--json]

No model is asked: differences with a known mean are drawn and judged by the gate's own confidence
sequences, stage by stage, at the level of look t. Sample sizes, stages, tolerances and α are the
shipped ones, read from the settings.

- *Drift.* One sample's difference of a prompt is +1, 0 or −1 (one side shows the behaviour and the
  other does not), from two independent samples with shares `left` and `left + drift`. Samples of
  one prompt are correlated: with chance √ρ each copies the prompt's own draw, which gives the
  intra-class correlation ρ. Both strata have the same true drift; approval needs both.
- *Capability.* An item's difference is +1, 0 or −1; `discordance` is the share that is not 0.

Does not cover: how a difference comes about (that is what `benchmarks.gate` trains models for), nor
what discovery overlooks: the drift here is that of the frozen behaviour.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import bar, finish
from regent.config import Policy
from supervisor.budget import share
from supervisor.capability import CapabilitySettings
from supervisor.diffing.instrument import DiffSettings
from supervisor.diffing.prompts import STRATA
from supervisor.statistics.betting import log_wealth_above
from supervisor.statistics.exact import clopper_pearson

Floats = NDArray[np.float64]

SEED = 0
LOOKS = (1, 2, 5, 20)
DRIFTS = (0.0, 0.1, 0.2, 0.3, 0.5)
LEFT_SHARES = (0.15, 0.3, 0.5)
CORRELATIONS = (0.0, 0.3, 0.6)
DISCORDANCES = (0.1, 0.2, 0.3)
CHANGES = (0.0, -0.05)
_CHUNK = 250


def drift_differences(
    n: int, left: float, drift: float, rho: float, diff: DiffSettings, rng: np.random.Generator
) -> Floats:
    """Per-prompt mean differences of `n` simulated strata: [n, prompts], in [−1, 1]."""
    right = left + drift
    up, down = right * (1 - left), left * (1 - right)
    size = (n, diff.gate_prompts, diff.gate_samples)

    def draw(shape: tuple[int, ...]) -> Floats:
        u = rng.random(shape)
        return (u < up).astype(np.float64) - (u >= 1 - down)

    common, own = draw((*size[:2], 1)), draw(size)
    return np.asarray(np.where(rng.random(size) < np.sqrt(rho), common, own).mean(axis=2))


def item_differences(
    n: int, change: float, discordance: float, items: int, rng: np.random.Generator
) -> Floats:
    """Candidate − reference on each item of `n` simulated looks: [n, items] in {−1, 0, 1}."""
    u = rng.random((n, items))
    return (u < (discordance + change) / 2).astype(np.float64) - (
        u >= 1 - (discordance - change) / 2
    )


def surely_below(x: Floats, tolerance: float, level: float, ends: Sequence[int]) -> Any:
    """Whether the upper bound on the mean lies within the tolerance after each stage: [n, stages].

    `ends`: how many are seen after each stage; the last is the horizon. `x`: [n, horizon] in
    [−1, 1]. The same as `confidence_sequence(...)` upper ≤ tolerance: wealth grows with m, so its
    root lies below the tolerance where wealth has ever reached 1/α there.
    """
    horizon, within = ends[-1], []
    for begin in range(0, len(x), _CHUNK):
        chunk = x[begin : begin + _CHUNK]
        wealth = log_wealth_above(chunk, tolerance, -1.0, 1.0, horizon, level)
        reached = np.maximum.accumulate(wealth, axis=-1) >= -np.log1p(-level)
        means = np.cumsum(chunk, axis=-1) / np.arange(1, horizon + 1)
        within.append((reached & (means <= tolerance))[:, [end - 1 for end in ends]])
    return np.concatenate(within)


def approvals(within: Any, beyond: Any) -> Any:
    """Approved or not, by the instruments' stopping rule: [n].

    `within`, `beyond`: [n, strata, stages]. It stops when all are within, or one surely beyond.
    """
    all_within, any_beyond = within.all(axis=1), beyond.any(axis=1)
    stopped = all_within | any_beyond
    stopped[:, -1] = True
    last = stopped.argmax(axis=1)
    return all_within[np.arange(len(last)), last]


def drift_power(
    n: int, left: float, drift: float, rho: float, look: int, rng: np.random.Generator
) -> int:
    """Approvals of `n` successors whose drift is `drift` in every stratum."""
    diff, level = DiffSettings(), 1 - share(Policy().alpha, look)
    ends = diff.ends(diff.gate_prompts)
    within, beyond = [], []
    for _ in STRATA:
        x = drift_differences(n, left, drift, rho, diff, rng)
        at = diff.drift_tolerance
        within.append(surely_below(x, at, level, ends))
        beyond.append(surely_below(-x, -at, level, ends))
    return int(approvals(np.stack(within, axis=1), np.stack(beyond, axis=1)).sum())


def capability_power(
    n: int, change: float, discordance: float, look: int, rng: np.random.Generator
) -> int:
    """Approvals of `n` successors whose mean accuracy off target changes by `change`."""
    settings, level = CapabilitySettings(), 1 - share(Policy().alpha, look)
    x = item_differences(n, change, discordance, settings.items, rng)
    ends = settings.ends(settings.items)
    within = surely_below(-x, settings.margin, level, ends)
    beyond = surely_below(x, -settings.margin, level, ends)
    return int(approvals(within[:, None], beyond[:, None]).sum())


def run(n: int, quick: bool) -> dict[str, Any]:
    began = time.monotonic()
    rng = np.random.default_rng(SEED)
    diff, capability = DiffSettings(), CapabilitySettings()
    looks = LOOKS[:1] if quick else LOOKS
    drift = [
        {"left_share": left, "correlation": rho, "drift": d, "look": look}
        | _share(drift_power(n, left, d, rho, look, rng), n)
        for left in LEFT_SHARES
        for rho in CORRELATIONS
        for d in sorted({*DRIFTS, diff.drift_tolerance})
        for look in looks
        if left + d <= 1
    ]
    skills = [
        {"discordance": q, "change": change, "look": look}
        | _share(capability_power(n, change, q, look, rng), n)
        for q in DISCORDANCES
        for change in (*CHANGES, -capability.margin)
        for look in looks
        if abs(change) <= q
    ]
    alpha = share(Policy().alpha, 1)
    edge = [r for r in drift if r["drift"] == diff.drift_tolerance and r["look"] == 1]
    margin = [r for r in skills if r["change"] == -capability.margin and r["look"] == 1]
    far = [r for r in drift if r["drift"] == max(DRIFTS)]
    wrong = max(r["approved"] for r in (*edge, *margin))
    same = min(r["approved"] for r in drift if r["drift"] == 0 and r["look"] == 1)
    return {
        "seed": SEED,
        "figures": {
            "simulated": n,
            "alpha": Policy().alpha,
            "diff": diff.model_dump(exclude={"concern_tolerances"}),  # those never approve
            "capability": capability.model_dump(),
            "drift": drift,
            "non_inferiority": skills,
            "seconds": round(time.monotonic() - began, 1),
        },
        "bars": {
            "at the tolerance or the margin itself the first look approves at most α_1": bar(
                wrong, round(alpha, 4), wrong <= alpha
            ),
            "a drift of one half is approved in at most 1 of 1000": bar(
                max(r["approved"] for r in far), 0.001, all(r["approved"] <= 0.001 for r in far)
            ),
            "a successor without drift is approved at the first look in at least 90 %": bar(
                same, 0.9, same >= 0.9
            ),
        },
    }


def _share(approved: int, n: int) -> dict[str, Any]:
    share_, low, high = clopper_pearson(approved, n, 0.95)
    return {"approved": share_, "interval_95": [round(low, 4), round(high, 4)], "n": n}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="the first look, fewer simulations")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    report = run(400 if given.quick else 1000, given.quick)
    return finish("power", report, given.json, whole=not given.quick)


if __name__ == "__main__":
    raise SystemExit(main())
