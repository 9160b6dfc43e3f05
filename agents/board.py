"""The board that the live view shows: a run under way as data, its drawing, and the words for both.

Pure: times come in as arguments, and what models wrote is shown as plain text, never as markup or
control codes. Signs and words carry the meaning; colours (cyan, yellow, magenta) only repeat it.

Does not cover: when and where it is drawn (`agents.live`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

STATIONS = (
    "profile",
    "plan",
    "experiment",
    "assemble",
    "judge_batch",
    "train",
    "judge_checkpoint",
    "promote",
)
#: decision: (sign, style)
SIGNS = {
    "approve": ("✓", "bold cyan"),
    "quarantine": ("?", "bold yellow"),
    "veto": ("✗", "bold magenta"),
}
UNKNOWN = "—"


def plain(text: str) -> str:
    """One line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def clock(seconds: float | None) -> str:
    """Seconds as `m:ss` or `h:mm:ss`; a dash where unknown."""
    if seconds is None:
        return UNKNOWN
    whole = max(int(seconds), 0)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def count(n: float) -> str:
    """A number of tokens in at most five characters: 950, 12.3k, 4.1M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size * 0.9995:
            return f"{n / size:.0f}{unit}" if n >= 99.95 * size else f"{n / size:.1f}{unit}"
    return f"{n:.0f}"


def change_word(low: float, high: float) -> tuple[str, str, str]:
    """(sign, words, style) for a difference with the interval [low, high]."""
    if low > 0:
        return "▲", "higher, interval excludes zero", "bold cyan"
    if high < 0:
        return "▼", "lower, interval excludes zero", "bold magenta"
    return "·", "interval includes zero", "dim"


def gain_text(skill: str, before: float, after: float, low: float, high: float) -> Text:
    """`▲ env/skill 12 % → 56 %, difference +44 [+20, +61] points: higher, …`."""
    sign, words, style = change_word(low, high)
    figures = (
        f"{plain(skill)} {before:.0%} → {after:.0%}, difference "
        f"{100 * (after - before):+.0f} [{100 * low:+.0f}, {100 * high:+.0f}] points: "
    )
    return Text.assemble((f"{sign} ", style), figures, (words, style))


def verdict_text(kind: str, decision: str) -> Text:
    """`✓ batch: approve`."""
    sign, style = SIGNS.get(decision, ("?", "bold"))
    return Text.assemble((f"{sign} ", style), f"{kind}: ", (plain(decision), style))


def ended_text(event: dict[str, Any]) -> str:
    """One line on an experiment that ended."""
    outcomes = ", ".join(f"{n} {name}" for name, n in sorted(event.get("outcomes", {}).items()))
    detail = f" ({plain(event['detail'])})" if event.get("detail") else ""
    return (
        f"{plain(event.get('worker', 'worker'))} ended: {outcomes or 'nothing'}, "
        f"{count(event.get('tokens', 0))} tokens, {event.get('seconds', 0.0):.0f} s{detail}"
    )


@dataclass
class Board:
    """What the live view shows, as data. Times are monotonic seconds.

    Its dicts are replaced and never altered, because another thread draws them meanwhile.
    """

    title: str = "Regent"
    rounds: int = 0
    facts: dict[str, str] = field(default_factory=dict)
    began: float = 0.0
    round: int = 0
    station: str = ""
    station_began: float = 0.0
    spent: dict[str, list[float]] = field(default_factory=dict)
    workers: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    progress: tuple[str, float, float] | None = None
    gains: dict[str, Text] = field(default_factory=dict)
    verdicts: dict[str, Text] = field(default_factory=dict)
    tokens: int = 0

    def enter_round(self, number: int) -> None:
        if number == self.round:
            return
        self.round, self.ended = number, 0
        self.outcomes, self.gains, self.verdicts = {}, {}, {}

    def enter(self, station: str, now: float) -> None:
        """The last station is over; remember how long such a one takes."""
        if self.station:
            taken = [*self.spent.get(self.station, ()), now - self.station_began]
            self.spent = {**self.spent, self.station: taken}
        self.station, self.station_began, self.progress = station, now, None
        self.workers = {}

    def heard(self, event: dict[str, Any]) -> None:
        name = str(event.get("worker", ""))
        if event.get("event") in ("started", "progress"):
            self.workers = {**self.workers, name: event}
        elif event.get("event") == "ended":
            self.workers = {k: v for k, v in self.workers.items() if k != name}
            self.ended += 1
            self.outcomes = dict(Counter(self.outcomes) + Counter(event.get("outcomes", {})))

    def all_tokens(self) -> int:
        """Counted ones and those of the experiments under way, which are counted when kept."""
        return self.tokens + sum(int(event.get("tokens", 0)) for event in self.workers.values())

    def seconds_left(self, now: float) -> float | None:
        """From what each station took so far; None while one that is still due was never seen."""
        if self.station not in STATIONS or not self.rounds:
            return None
        place = STATIONS.index(self.station)
        whole_rounds = max(self.rounds - self.round, 0)
        due = set(STATIONS) if whole_rounds else set(STATIONS[place:])
        if not due <= set(self.spent):
            return None
        mean = {name: sum(times) / len(times) for name, times in self.spent.items()}
        current = max(mean[self.station] - (now - self.station_began), 0.0)
        rest = sum(mean[name] for name in STATIONS[place + 1 :])
        return current + rest + whole_rounds * sum(mean[name] for name in STATIONS)


def render(board: Board, now: float) -> RenderableType:
    """The live view of `board`, for any width from 60 columns up."""
    head = Text.assemble((plain(board.title), "bold"), overflow="ellipsis", no_wrap=True)
    parts: list[RenderableType] = [head]
    if board.facts:
        parts += [
            Text(f"{plain(k)} {plain(v)}", "dim", overflow="ellipsis", no_wrap=True)
            for k, v in board.facts.items()
        ]
    at = STATIONS.index(board.station) if board.station in STATIONS else -1
    track = Text()
    for number, name in enumerate(STATIONS):
        style = "dim" if number > at else "reverse bold" if number == at else ""
        said = name.replace("_", " ")
        track.append(" " if number else "").append(f"[{said}]" if number == at else said, style)
    elapsed, left = clock(now - board.began), clock(board.seconds_left(now))
    times = Text(
        f"round {board.round or UNKNOWN} of {board.rounds} · {elapsed} elapsed · {left} left · "
        f"{count(board.all_tokens())} tokens"
    )
    parts += [track, times]
    if board.workers:
        parts.append(_workers(board))
    if board.ended:
        outcomes = ", ".join(f"{n} {name}" for name, n in sorted(board.outcomes.items()))
        parts.append(Text(f"experiments ended this round: {board.ended} ({outcomes})"))
    if board.progress is not None:
        label, done, total = board.progress
        row = Table.grid(padding=(0, 1))
        row.add_row(Text(plain(label)), _bar(done, total, 24), f"{done:g}/{total:g}")
        parts.append(row)
    parts += [*board.verdicts.values(), *board.gains.values()]
    return Group(*parts)


def _workers(board: Board) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=40)
    table.add_column(width=12)
    for _ in range(3):
        table.add_column(justify="right", no_wrap=True)
    for name, event in sorted(board.workers.items()):
        skill, done, total = (
            str(event.get("skill", "")),
            event.get("done", 0),
            event.get("total", 0),
        )
        label = name if skill in name else f"{name} {skill}"
        elapsed = event.get("elapsed_s")
        table.add_row(
            Text(plain(label)),
            _bar(done, total, 12),
            f"{done}/{total} tasks",
            f"{count(event.get('tokens', 0))} tok",
            "starting" if elapsed is None else f"{elapsed:.0f} s",
        )
    return table


def _bar(done: float, total: float, width: int) -> ProgressBar:
    return ProgressBar(total or 1, done, width, complete_style="cyan", finished_style="cyan")
