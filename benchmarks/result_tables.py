"""Tables of what benchmarks found: a result as its file has it in, Markdown out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from supervisor.reflectivity.frame import SUBTASKS

_LEFT_SHARE, _CORRELATION = 0.3, 0.3  # of the drift table in the docs; the file has the others
_DECISIONS = ("approve", "quarantine", "veto")
_DECISION_HEADS = ("approved", "quarantined", "vetoed")


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def probing_gates_table(result: Mapping[str, Any]) -> str:
    """Every gate of the shipped sets: the figure of each sub-task, or of all."""
    gates = result["figures"]["gates"]
    rows = []
    for name in dict.fromkeys(gate["name"] for gate in gates):
        own = {gate["subtask"]: gate for gate in gates if gate["name"] == name}
        one = next(iter(own.values()))
        figures = [f"{own[s]['figure']:.3g}" if s in own else "" for s in SUBTASKS]
        if "all" in own:
            figures = [f"{one['figure']:.3g}", "", "", "", ""]
        bound = f"{'≤' if one['most'] else '≥'} {one['bar']:g}"
        rows.append([name, bound, *figures, _yes(all(gate["holds"] for gate in own.values()))])
    return markdown(["gate", "bar", *SUBTASKS, "holds"], rows)


def probed_models_table(result: Mapping[str, Any]) -> str:
    """Accuracy of known models, with 95 % intervals over frames."""
    rows = [
        [
            model,
            *(
                f"{said[s]['accuracy']:.2f} [{said[s]['low']:.2f}, {said[s]['high']:.2f}]"
                + (" blind" if said[s]["blind"] else "")
                for s in SUBTASKS
            ),
        ]
        for model, said in result["figures"]["models"].items()
    ]
    return markdown(["model", *SUBTASKS], rows)


def power_drift_table(result: Mapping[str, Any]) -> str:
    """Chance of approval by true drift and look, at one left share and correlation."""
    rows = [
        row
        for row in result["figures"]["drift"]
        if (row["left_share"], row["correlation"]) == (_LEFT_SHARE, _CORRELATION)
    ]
    return _by_look(rows, "drift", "true drift")


def power_capability_table(result: Mapping[str, Any]) -> str:
    """Chance of approval by true change, discordance and look."""
    rows = [
        {**row, "case": f"{row['change']:+.2f}, discordance {row['discordance']:.1f}"}
        for row in result["figures"]["non_inferiority"]
    ]
    return _by_look(rows, "case", "true change of mean accuracy")


def gate_table(result: Mapping[str, Any]) -> str:
    """Successors judged by the shipped policy, by what was planted in them and how plainly."""
    rows = []
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for row in result["figures"]["successors"]:
        weak = row["expressed"] is not None and row["expressed"] < 0.5
        by_name.setdefault(row["behaviour"] + " (not plainly)" * weak, []).append(row)
    for name in sorted(by_name, key=lambda name: (name != "none", "(not" in name, name)):
        of = by_name[name]
        shown = [row["expressed"] for row in of if row["expressed"] is not None]
        drifts = [_most(row["measurements"], "diff/drift/") for row in of]
        known = [d for d in drifts if d is not None]
        rows.append(
            [
                "nothing (harmless)" if name == "none" else name,
                len(of),
                f"{min(shown):.0%}" if shown else "–",
                *(sum(row["decision"] == d for row in of) for d in _DECISIONS),
                _range(known),
            ]
        )
    head = ["planted", "successors", "least expressed", *_DECISION_HEADS, "largest drift"]
    return markdown(head, rows)


def concerns_table(result: Mapping[str, Any]) -> str:
    """Each concern's AUROC on exemplars outside the fit."""
    rows = [
        [
            name,
            said["pairs"],
            f"{said['auroc']:.2f} [{said['low']:.2f}, {said['high']:.2f}]",
            "blind" if said["blind"] else "sees",
        ]
        for name, said in sorted(
            result["figures"]["concerns"].items(), key=lambda item: -item[1]["auroc"]
        )
    ]
    return markdown(["concern", "pairs", "AUROC [95 %]", ""], rows)


def false_alarms_table(result: Mapping[str, Any]) -> str:
    """What is said where it must not be: where nothing differs, and at the tolerance."""
    rows = [
        [
            name,
            said["n"],
            said["alarms"],
            f"{said['share']:.1%} [{said['low']:.1%}, {said['high']:.1%}]",
        ]
        for name, said in (result["figures"]["null"] | result["figures"]["at_tolerance"]).items()
    ]
    return markdown(["comparison, finding", "n", "alarms", "share [95 %]"], rows)


def diff_cost_table(result: Mapping[str, Any]) -> str:
    """Seconds and memory of `regent diff` on recordings."""
    rows = [
        [f"{said['responses_a_side']:,}", f"{said['seconds']:.0f}", f"{said['peak_gib']:.1f}"]
        for said in result["figures"]["costs"]
    ]
    return markdown(["responses a side", "seconds", "peak GiB"], rows)


def detection_table(result: Mapping[str, Any]) -> str:
    """Every method beside ours: area under the ROC curve by budget, and power at a rate of 10 %."""
    methods = result["figures"]["methods"]
    budgets = [f"{row['prompts']} prompts" for row in next(iter(methods.values()))]
    rows = [
        [
            name,
            *(f"{row['auroc']:.3f}" for row in by_budget),
            *(f"{row['power_at_5_percent']['0.1']:.2f}" for row in by_budget),
        ]
        for name, by_budget in methods.items()
    ]
    head = ["method", *(f"AUROC, {n}" for n in budgets), *(f"power, {n}" for n in budgets)]
    return markdown(head, rows)


def native_table(result: Mapping[str, Any]) -> str:
    """Organisms trained to a low rate beside mixtures at that rate: AUROC, and how often named."""

    def told(share: Mapping[str, Any]) -> str:
        return f"{share['share']:.0%} [{share['low']:.0%}, {share['high']:.0%}]"

    rows = [
        [
            one["behaviour"],
            f"{told(one['expressed'])} of {one['expressed']['n']}",
            *(f"{one[kind]['auroc']:.2f}" for kind in ("trained", "mixed")),
            *(told(one[kind]["named"]) for kind in ("trained", "mixed")),
        ]
        for one in result["figures"]["organisms"]
    ]
    alone = f"{result['figures']['training_alone']['auroc']:.2f}"
    rows.append(["none (training alone)", "", alone, "", "", ""])
    head = ["behaviour", "counted rate [95 %]", "AUROC, trained", "AUROC, mixed"]
    return markdown([*head, "named, trained", "named, mixed"], rows)


def claims_table(
    result: Mapping[str, Any], measured: str = "measured", value: str = ".3g", held_to: str = ".3g"
) -> str:
    """What a benchmark claims beside its bar; `value` and `held_to` are formats of the two."""
    rows = [
        [claim, f"{said['value']:{value}}", f"{said['bar']:{held_to}}", _yes(said["holds"])]
        for claim, said in result["bars"].items()
    ]
    return markdown(["claim", measured, "bar", "holds"], rows)


def loop_table(result: Mapping[str, Any]) -> str:
    """A whole run of the shipped configuration, round by round."""
    rows = []
    for number, one in enumerate(result["figures"]["rounds"], 1):
        gains = "; ".join(
            f"{skill.split('/')[-1]} {gain['before']:.0%} → {gain['after']:.0%} "
            f"[{100 * gain['low']:+.0f}, {100 * gain['high']:+.0f}]"
            for skill, gain in one["held_out"].items()
        )
        seconds = one["seconds"]
        spent = f"{seconds['total'] / 60:.1f} ({seconds['supervise'] / seconds['total']:.0%})"
        rows.append(
            [number, one["gaps"], one["examples"], one["batch"], one["checkpoint"], gains, spent]
        )
    head = ["round", "gaps", "examples", "batch", "successor"]
    head += ["held-out items, difference in points [95 %]", "minutes (supervising)"]
    return markdown(head, rows)


def throughput_table(result: Mapping[str, Any]) -> str:
    """Regent's path beside a bare client of the same server."""
    return claims_table(result, "median of the paired ratios", ".3f", ".2f")


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _by_look(rows: Sequence[Mapping[str, Any]], key: str, head: str) -> str:
    looks = sorted({row["look"] for row in rows})
    cells = {(row[key], row["look"]): row["approved"] for row in rows}
    order = sorted({row[key] for row in rows}, key=lambda value: (isinstance(value, str), value))
    return markdown(
        [head, *(f"look {look}" for look in looks)],
        [[value, *(f"{cells[value, look]:.3f}" for look in looks)] for value in order],
    )


def _most(measurements: Sequence[Mapping[str, Any]], prefix: str) -> float | None:
    estimates = [m["estimate"] for m in measurements if m["name"].startswith(prefix)]
    return max((e for e in estimates if e is not None), default=None)


def _range(values: Sequence[float]) -> str:
    if not values:
        return "–"
    low, high = min(values), max(values)
    return f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"


def crowd_table(result: Mapping[str, Any]) -> str:
    """What each crowd is worth, and its items by what is known of them."""
    words = ("flat", "tells", "unsure", "all right", "none right")
    rows: list[list[object]] = []
    for name, said in result["figures"]["crowds"].items():
        by_word = [sum(of[word] for of in said["words"].values()) for word in words]
        rows.append(
            [
                name,
                f"{said['respondents']} of {said['checkpoints']}",
                _figure(said["effective"], ".0f"),
                _figure(said["reliability"], ".2f"),
                _figure(said["p_value"], ".3g"),
                said["better"] or "blind",
                *by_word,
            ]
        )
    head = ["crowd", "respondents of checkpoints", "worth", "reliability", "p against coins"]
    return markdown([*head, "model", *words], rows)


def _figure(value: float | None, how: str) -> str:
    return "–" if value is None else f"{value:{how}}"
