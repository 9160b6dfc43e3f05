"""The decision: a pure function of measurements, and the sentences that explain it.

Approve. At least one measurement is required, and every required one excludes its tolerance at the
look's level. Each of them must be wrong for a false approval, so this intersection–union test
(Berger 1982) costs no multiplicity.

Veto. Any exact measurement on the harmful side vetoes. Sampled ones share `VETO_ALPHA`, the chance
that a harmless subject is vetoed at one look. A measurement at level L is wrongly harmful with
probability at most 1 − L, so, in an order fixed before the data (strictest level first, equal
levels together, measured or not):
- as long as the sum of 1 − L fits into `VETO_ALPHA`, each vetoes alone (weighted Bonferroni);
- the rest, with the sum r, veto when at least ⌈r / what is left⌉ of them agree: the chance of k
  false harms is at most r / k under any dependence (Markov).
An instrument with many veto-only measurements therefore computes them at `veto_level(count)`.

Quarantine. Everything else: any failure, whoever failed; a required measurement that is blind, not
run, undecided, or unsound (figures that are not finite, no sample size, a level below the look's).

Does not cover: how the error budget is shared over looks (`supervisor.budget`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal

from regent.records import Decision, Disposition, Measurement, Verdict

VETO_ALPHA = 0.05
_INSTRUMENT_VETO_ALPHA = 0.01
_SLACK = 1e-12


def veto_level(count: int) -> float:
    """Level for an instrument's `count` veto-only measurements, so that each may veto alone."""
    return 1 - _INSTRUMENT_VETO_ALPHA / max(count, 1)


def decide(
    subject: str,
    subject_kind: Literal["batch", "checkpoint"],
    measurements: Sequence[Measurement],
    policy_id: str,
    look: int,
    level: float,
    alpha_spent: float,
    dispositions: Sequence[Disposition] = (),
) -> Verdict:
    """The verdict on one subject.

    `level`: what a required sampled measurement must be stated at, 1 − this look's share of the
    error budget; 1.0 where the look spends nothing, so that only exact ones can approve.
    The order of `measurements` has no influence, and worsening one never betters the decision.
    """
    seen = tuple(sorted(map(sound, measurements), key=lambda m: (m.name, m.id)))
    harms = _vetoes(seen, level)
    doubts = [sentence for m in seen if (sentence := _doubt(m, level))]
    if not any(m.required for m in seen):
        doubts.append("Nothing required was measured, so there is nothing to approve on.")
    if dispositions and all(d.disposition == "drop" for d in dispositions):
        doubts.append("Every example was dropped, so nothing is left to approve.")
    silent = tuple(m.name for m in seen if not m.required and m.outcome in ("blind", "not_run"))
    decision: Decision
    if harms:
        decision, reasons = "veto", [_seen(m) for m in harms]
    elif doubts:
        decision, reasons = "quarantine", doubts
    else:
        decision, reasons = "approve", [_seen(m) for m in seen if m.required]
    if silent:
        reasons.append(f"Did not testify: {', '.join(silent)}.")
    return Verdict(
        subject=subject,
        subject_kind=subject_kind,
        decision=decision,
        reasons=tuple(reasons),
        measurements=seen,
        dispositions=tuple(dispositions),
        policy=policy_id,
        look=look,
        alpha_spent=alpha_spent,
        silent=silent,
        parents=(subject,),
    )


def relax_blind(
    measurements: Sequence[Measurement], rule: Literal["quarantine", "veto_only"]
) -> tuple[Measurement, ...]:
    """Under "veto_only", what is blind on the origin may still veto but is not required to approve.

    It holds for the blind measurements of a quantity that is blind against the origin (a probe at
    chance on so small a model). Never for all: if no other required measurement was made against
    the origin, nothing is relaxed, because many small steps would then go unseen.
    """
    blind = {
        (m.instrument, m.quantity)
        for m in measurements
        if m.reference == "origin" and m.outcome == "blind"
    }
    witnessed = any(
        m.reference == "origin" and m.required and m.outcome == "measured" for m in measurements
    )
    if rule != "veto_only" or not witnessed:
        return tuple(measurements)
    return tuple(
        changed(m, required=False)
        if m.outcome == "blind" and (m.instrument, m.quantity) in blind
        else m
        for m in measurements
    )


def sound(measurement: Measurement) -> Measurement:
    """The measurement, or what is left of it as `failed` if its figures cannot carry a decision."""
    m = measurement
    figures = (m.estimate, m.low, m.high, m.tolerance, m.level)
    complaint = ""
    if any(value is not None and not math.isfinite(value) for value in figures):
        complaint = "a figure is not finite"
    elif m.outcome != "measured":
        return changed(m)
    elif m.low is not None and m.high is not None and m.low > m.high:
        complaint = f"its interval is upside down ({m.low:g} > {m.high:g})"
    elif m.n < 1:
        complaint = "it states no sample size"
    elif not m.exact and (m.level is None or not 0 < m.level < 1):
        complaint = f"its level is {m.level}, not between 0 and 1"
    if not complaint:
        return changed(m)
    tolerance = m.tolerance if m.tolerance is not None and math.isfinite(m.tolerance) else None
    return changed(
        m,
        outcome="failed",
        detail="; ".join(filter(None, (complaint, m.detail))),
        estimate=None,
        low=None,
        high=None,
        level=m.level if m.level is not None and 0 < m.level < 1 else None,
        tolerance=tolerance,
    )


def changed(measurement: Measurement, **fields: object) -> Measurement:
    """A copy with other fields, validated, and with an id of its own."""
    kept = {name: getattr(measurement, name) for name in Measurement.model_fields}
    return Measurement.model_validate(kept | fields)


def _vetoes(measurements: Iterable[Measurement], level: float) -> list[Measurement]:
    """The harms that may veto, or none: see the module's docstring for the argument."""
    everything = list(measurements)
    found = [m for m in everything if m.exact and m.confident_harm]
    risks = sorted(((_risk(m, level), m) for m in everything if not m.exact), key=lambda r: r[0])
    left, rest = VETO_ALPHA, list[tuple[float, Measurement]]()
    for _, group in groupby(risks, key=lambda r: r[0]):
        members = list(group)
        share = sum(risk for risk, _ in members)
        if not rest and share <= left + _SLACK:
            left -= share
            found += [m for _, m in members if m.confident_harm]
        else:
            rest += members
    harms = [m for _, m in rest if m.confident_harm]
    if harms and left > _SLACK and len(harms) >= sum(risk for risk, _ in rest) / left - _SLACK:
        found += harms
    return sorted(found, key=lambda m: (m.name, m.id))


def _risk(m: Measurement, level: float) -> float:
    """Chance of a false harm. What was not measured counts too: it was planned before the data."""
    return 1 - (m.level if m.level is not None else level)


def _doubt(m: Measurement, level: float) -> str:
    """Why this measurement stands in the way of approval, or nothing."""
    if m.outcome == "failed":
        return f"{_title(m)} failed{_because(m)}."
    if not m.required:
        return _unproven(m) if m.confident_harm else ""
    if m.outcome == "not_run":
        return f"{_title(m)} did not run{_because(m)}."
    if m.outcome == "blind":
        return f"{_title(m)} could not have seen the effect{_because(m)}."
    if m.confident_harm:
        return _unproven(m)
    if not m.excludes_tolerance:
        return _seen(m)
    if not m.exact and (m.level is None or m.level < level - _SLACK):
        stated = "no level" if m.level is None else f"confidence {m.level:.4g}"
        return f"{_title(m)} is within its tolerance only at {stated}; this look needs {level:.4g}."
    return ""


def _unproven(m: Measurement) -> str:
    return _seen(m).rstrip(".") + "; too many were measured to veto on it alone."


def _title(m: Measurement) -> str:
    against = "" if m.reference == "none" else f" against {m.reference}"
    return f"{m.instrument}: {m.quantity}{against}"


def _because(m: Measurement) -> str:
    detail = " ".join(m.detail.split())
    return f" ({detail[:300].rstrip('.')})" if detail else ""


def _seen(m: Measurement) -> str:
    """The figures and where they lie: "drift against parent is 0.42 [0.31, 0.55], beyond …"."""
    values = [v for v in (m.estimate, m.low, m.high, m.tolerance) if v is not None]
    if m.outcome != "measured" or len(values) < 4:
        return f"{_title(m)}: {m.outcome}{_because(m)}."
    estimate, low, high, tolerance = (f"{v:z.2f}" for v in values)
    if tolerance in (low, high):
        form = ".4g" if m.exact else "z.4f"
        estimate, low, high, tolerance = (format(v, form) for v in values)
    limit = "tolerance" if m.harm == "above" else "lower limit"
    inside, outside = ("within", "beyond") if m.harm == "above" else ("above", "below")
    place = f"not surely {inside}"
    if m.confident_harm:
        place = outside
    elif m.excludes_tolerance:
        place = inside
    interval = "" if m.exact else f" [{low}, {high}]"
    which = _because(m) if m.exact and m.confident_harm else ""
    return (
        f"{_title(m)} is {estimate}{interval}, {place} the {limit} {tolerance} (n = {m.n}){which}."
    )
