"""The closing screen: what a run found, did, learned and was allowed, for a tired reader.

Pure: a summary as `agents.status.status` builds it in, a Rich renderable out, made for 80 to 100
columns. What is missing from an unfinished round is left out. Signs and words carry the meaning.

Does not cover: gathering the summary, and printing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from agents.board import SIGNS, change_word, clock, count, plain

Summary = Mapping[str, Any]

#: Reasons of one verdict that are shown; `regent audit why` has the rest.
REASONS = 6
GAPS = 12
_SOURCES = {
    "own_attempt": "own attempts that the environment verified",
    "world_answer": "answers of the world where the model was wrong",
    "replay": "rehearsed, so that training leaves them as they are",
    "external": "from outside",
}
_DECISIONS = {
    "approve": "approved: all that the policy requires lies surely within its tolerance",
    "quarantine": "quarantined: not surely harmless and not surely harmful",
    "veto": "vetoed: surely beyond what the policy tolerates",
}
_SILENCE = "Did not testify"
_SPENT = {
    "profile": "finding gaps",
    "experiment": "experimenting",
    "train": "training",
    "supervise": "supervising",
}


def closing(summary: Summary) -> RenderableType:
    """The screen for `summary`: head, a section a round, the whole run, and where to look next."""
    parts: list[RenderableType] = [_head(summary)]
    for one in summary.get("rounds", ()):
        parts += [Text(), *_round(one, summary)]
    parts += [Text(), Rule("the whole run", align="left", style="dim"), _whole(summary)]
    parts += [Text(), Rule("where to look next", align="left", style="dim")]
    parts += _next(summary.get("look", {}))
    return Group(*parts)


def _head(summary: Summary) -> RenderableType:
    state = str(summary.get("state", ""))
    done = sum(1 for one in summary.get("rounds", ()) if one.get("finished", True))
    lines = [
        Text.assemble(
            ("Regent ", "bold"),
            plain(summary.get("folder", "")),
            " · ",
            (state, "bold"),
            f" · {done} of {summary.get('rounds_planned') or '?'} rounds finished",
        )
    ]
    if state == "running":
        lines.append(Text(f"now: round {summary.get('round')}, {_station(summary)}"))
    if summary.get("line"):
        lines.append(Text(plain(summary["line"]), "yellow"))
    champion = plain(summary.get("champion_name") or "") or str(summary.get("champion", ""))[:12]
    if champion:
        lines.append(Text.assemble("champion: ", (champion, "bold"), _reign(summary)))
    return Group(*lines)


def _reign(summary: Summary) -> str:
    crowned = [one["round"] for one in summary.get("rounds", ()) if one.get("promoted")]
    if crowned:
        return f", crowned in round {crowned[-1]}"
    judged = any(one.get("checkpoint_verdict") for one in summary.get("rounds", ()))
    return ", the origin: no successor was approved" if judged else ", the origin"


def _station(summary: Summary) -> str:
    return plain(summary.get("station", "")).replace("_", " ")


def _round(one: Summary, summary: Summary) -> list[RenderableType]:
    number = one.get("round")
    unfinished = "" if one.get("finished", True) else f", unfinished, at {_station(summary)}"
    table = _facts()
    _row(table, "gaps found", _gaps(one.get("gaps", ())))
    _row(table, "experiments", _experiments(one))
    _row(table, "examples", _examples(one))
    _row(table, "batch", _verdict(one.get("batch_verdict"), "no batch was judged"))
    successor = _verdict(one.get("checkpoint_verdict"), "no successor was judged")
    if one.get("promoted"):
        successor.append("\n→ crowned: it is the champion from here on", "bold")
        successor.append(" (no gain is asked of it, only that nothing is surely lost)", "dim")
    elif one.get("finished", True):
        successor.append("\n→ the champion stays")
    _row(table, "successor", successor)
    parts: list[RenderableType] = [
        Rule(f"round {number}{unfinished}", align="left", style="dim"),
        table,
    ]
    if one.get("held_out"):
        parts.append(Padding(_held_out(one["held_out"]), (1, 0)))
    costs = _facts()
    _row(costs, "wall-clock", _seconds(one.get("seconds", {})))
    _row(costs, "supervising", _instruments(one))
    tokens = {k: n for k, n in one.get("tokens", {}).items() if k != "total"}
    spent = " · ".join(f"{name} {count(n)}" for name, n in tokens.items())
    _row(costs, "tokens", Text(f"{count(one.get('tokens', {}).get('total', 0))} ({spent or '—'})"))
    for note in one.get("notes", ()):
        _row(costs, "note", Text(plain(note), "yellow"))
    return [*parts, costs]


def _facts() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, width=13)
    table.add_column(overflow="fold")
    return table


def _row(table: Table, label: str, value: RenderableType) -> None:
    table.add_row(Text(label), value)


def _gaps(gaps: Sequence[Summary]) -> Text:
    named = [f"{plain(gap['skill'])} level {gap['level']} ({_right(gap)})" for gap in gaps[:GAPS]]
    more = f", and {len(gaps) - GAPS} more" if len(gaps) > GAPS else ""
    return Text(f"{len(gaps)}: {', '.join(named)}{more}" if gaps else "0")


def _right(gap: Summary) -> str:
    """The share right with its exact interval, where that is known."""
    if gap.get("low") is None or gap.get("high") is None:
        return f"{gap['accuracy']:.0%} right"
    return f"{gap['accuracy']:.0%} right [{100 * gap['low']:.0f}, {100 * gap['high']:.0f}]"


def _experiments(one: Summary) -> Text:
    outcomes = ", ".join(f"{n} {name}" for name, n in sorted(one.get("outcomes", {}).items()))
    told = f", {one.get('trajectories', 0)} tasks: {outcomes}" if outcomes else ""
    on = ", ".join(map(plain, one.get("worked_on", ())))
    chosen = f"\non {on}: the bandit's choice among the gaps" if on else ""
    return Text(f"{one.get('experiments', 0)} run{told}{chosen}")


def _examples(one: Summary) -> Text:
    sources = one.get("examples_by_source", {})
    lines = [f"{n} {_SOURCES.get(name, plain(name))}" for name, n in sorted(sources.items())]
    return Text("\n".join([f"{one.get('examples', 0)} collected", *lines]))


def _verdict(verdict: Summary | None, nothing: str) -> Text:
    if not verdict:
        return Text(nothing, "dim")
    decision = str(verdict.get("decision", ""))
    sign, style = SIGNS.get(decision, ("?", "bold"))
    text = Text.assemble((f"{sign} {_DECISIONS.get(decision, plain(decision))}", style))
    text.append(f" (verdict {verdict['id'][:12]})" if verdict.get("id") else "", "dim")
    reasons = [r for r in verdict.get("reasons", ()) if not r.startswith(_SILENCE)]
    for reason in reasons[:REASONS]:
        text.append(f"\n- {plain(reason)}")
    if len(reasons) > REASONS:
        text.append(f"\n- and {len(reasons) - REASONS} more, in the verdict")
    if verdict.get("dropped"):
        text.append(f"\n- dropped as duplicates: {verdict['dropped']} of its examples")
    if verdict.get("silent"):
        names = {name.split("@")[0].removeprefix("capability/skill/") for name in verdict["silent"]}
        text.append(f"\n- did not testify: {plain(', '.join(sorted(names)))}", "yellow")
    return text


def _held_out(gains: Mapping[str, Summary]) -> Table:
    """One row a skill; shares with exact 95 % intervals where the number of items is known."""
    table = Table(box=None, padding=(0, 1), pad_edge=False, collapse_padding=True)
    table.add_column(Text("fresh held-out items", "dim"), overflow="fold")
    for name in ("before", "after", "difference, points"):
        table.add_column(Text(name, "dim"), justify="right", no_wrap=True)
    for skill, gain in sorted(gains.items()):
        sign, _, style = change_word(gain["low"], gain["high"])
        change = 100 * (gain["after"] - gain["before"])
        table.add_row(
            Text.assemble((f"{sign} ", style), plain(skill)),
            _share(gain, "before"),
            _share(gain, "after"),
            Text(f"{change:+.0f} [{100 * gain['low']:+.0f}, {100 * gain['high']:+.0f}]", style),
        )
    ns = sorted({gain["n"] for gain in gains.values() if "n" in gain})
    size = f" ({' or '.join(map(str, ns))} items a skill)" if ns else ""
    table.caption = Text(
        f"▲ higher, ▼ lower: 95 % interval excludes zero; · may be chance{size}", "dim"
    )
    table.caption_justify = "left"
    return table


def _share(gain: Summary, when: str) -> str:
    low, high = gain.get(f"{when}_low"), gain.get(f"{when}_high")
    interval = "" if low is None or high is None else f" [{100 * low:.0f}, {100 * high:.0f}]"
    return f"{gain[when]:.0%}{interval}"


def _seconds(seconds: Mapping[str, float]) -> Text:
    """Shares of the whole; what is left of it (promoting, publishing) is not named."""
    whole = seconds.get("total", 0.0)
    if not whole:
        return Text("—")
    shares = [
        f"{word} {clock(seconds.get(name, 0.0))} ({seconds.get(name, 0.0) / whole:.0%})"
        for name, word in _SPENT.items()
    ]
    return Text(f"{clock(whole)}: {' · '.join(shares)}")


def _sum(rounds: Sequence[Summary]) -> dict[str, float]:
    whole: dict[str, float] = {}
    for one in rounds:
        for name, seconds in one.get("seconds", {}).items():
            whole[name] = whole.get(name, 0.0) + seconds
    return whole


def _instruments(one: Summary) -> Text:
    costs = sorted(one.get("instruments", {}).items(), key=lambda item: -item[1])
    return Text(" · ".join(f"{plain(name)} {s:.1f} s" for name, s in costs) or "—")


def _whole(summary: Summary) -> Table:
    table = _facts()
    _row(table, "wall-clock", _seconds(_sum(summary.get("rounds", ()))))
    canaries, budget = summary.get("canaries", {}), summary.get("budget", {})
    planted, caught = canaries.get("planted", 0), canaries.get("caught", 0)
    told = Text(f"{planted} known-bad batches planted, {caught} caught")
    if caught < planted:
        missed = ", ".join(plain(kind) for kind in canaries.get("missed", ()))
        told.append(f"; {planted - caught} MISSED ({missed})", "bold magenta")
    _row(table, "canaries", told)
    spent, alpha = budget.get("spent", 0.0), budget.get("alpha", 0.0)
    limit = "the chance that anything unacceptable is ever approved in this run is at most α"
    _row(table, "error budget", Text(f"{spent:.4f} spent of α = {alpha:g}: {limit}"))
    silent = dict.fromkeys(plain(name).split("@")[0] for name in summary.get("silent", ()))
    told_silent = f"{', '.join(silent)} (too weak here to see an effect: no harm was ruled out)"
    _row(table, "silent", Text(told_silent, "yellow") if silent else Text("none"))
    waiting = summary.get("quarantined", ())
    if not waiting:
        _row(table, "quarantined", Text("nothing waits for a person"))
        return table
    text = Text()
    for item in waiting:
        text.append(f"{item['subject_kind']} {item['subject'][:12]}", "bold yellow")
        text.append(f" since {item['since'][:16].replace('T', ' ')}\n")
    _row(table, "quarantined", text.append(f"{len(waiting)} in all; how to decide stands below"))
    return table


def _next(look: Mapping[str, Any]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for key, words in (
        ("review", "what waits for a person: see it, and decide"),
        ("mlflow", "MLflow, a view of the ledger: batches, verdicts, checkpoints"),
        ("dashboard", "Ray's dashboard, while the run works"),
        ("metrics", "Ray's metrics, for Prometheus, while the run works"),
        ("verify", "the ledger: recompute the chain and every digest"),
        ("why", "the ledger: where the champion, a batch or an example came from"),
        ("status", "this screen again"),
        ("resume", "go on with the run"),
    ):
        told = look.get(key)
        if told:
            parts.append(Text(words, "dim"))
            for line in [told] if isinstance(told, str) else told:
                # Whole on one line, however narrow the screen: it is there to be pasted.
                parts.append(Text(f"  {line}", "cyan", no_wrap=True, overflow="ignore"))
    return parts
