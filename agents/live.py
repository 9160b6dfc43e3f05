"""What a person sees while a run works: Rich's live view on a terminal, plain lines elsewhere.

All of it goes to stderr. A view only shows: an exception inside one is swallowed, said once, and
the run goes on.

Does not cover: what is kept of a run (`agents.summary`, the ledger) and the closing screen
(`agents.closing`).
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from agents.board import Board, clock, ended_text, gain_text, plain, render, verdict_text

#: Seconds between two lines of one progress in the plain view.
PROGRESS_S = 15.0

P = ParamSpec("P")


class View(Protocol):
    """What the run tells a view. No call raises, and none waits."""

    def begin(self, title: str, rounds: int, facts: dict[str, str]) -> None: ...
    def round(self, number: int) -> None: ...
    def station(self, name: str) -> None: ...
    def worker(self, event: dict[str, Any]) -> None: ...
    def progress(self, label: str, done: float, total: float) -> None: ...
    def note(self, text: str) -> None: ...
    def verdict(self, kind: str, decision: str, reasons: Sequence[str]) -> None: ...
    def gain(self, skill: str, before: float, after: float, low: float, high: float) -> None: ...
    def tokens(self, n: int) -> None: ...
    def end(self) -> None: ...


def make_view(json: bool) -> View:
    """Live where stderr is a terminal, plain lines where it is not or stdout is a program's."""
    console = Console(stderr=True)
    if not json and console.is_terminal and not console.is_dumb_terminal:
        return LiveView(console)
    return PlainView()


class _Careful:
    """A view's own mishaps are said once and cost nothing else."""

    def __init__(self) -> None:
        self._complained = False

    def complain(self, error: Exception) -> None:
        if self._complained:
            return
        self._complained = True
        try:
            line = plain(f"the view failed ({type(error).__name__}: {error}); the run goes on")
            print(line, file=sys.__stderr__, flush=True)
        except Exception:
            return


def careful(method: Callable[P, None]) -> Callable[P, None]:
    """The view's method, unable to raise."""

    @functools.wraps(method)
    def safe(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:
            view = args[0]
            if isinstance(view, _Careful):
                view.complain(error)

    return safe


class LiveView(_Careful):
    """Notes, verdicts and gains scroll by above; below them stands the board, redrawn."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self.console = console or Console(stderr=True)
        self.board = Board(began=time.monotonic())
        self._live: Live | None = None

    @careful
    def begin(self, title: str, rounds: int, facts: dict[str, str]) -> None:
        self.board.title, self.board.rounds, self.board.facts = title, rounds, dict(facts)
        if self._live is None:
            self._live = Live(
                console=self.console,
                get_renderable=self._draw,
                refresh_per_second=4,
                transient=True,
            )
            self._live.start()

    @careful
    def round(self, number: int) -> None:
        if number != self.board.round:
            self.console.rule(f"round {number}", align="left", style="dim")
        self.board.enter_round(number)

    @careful
    def station(self, name: str) -> None:
        self.board.enter(name, time.monotonic())

    @careful
    def worker(self, event: dict[str, Any]) -> None:
        self.board.heard(event)
        if event.get("event") == "ended" and event.get("detail"):
            self._say(Text(ended_text(event)))

    @careful
    def progress(self, label: str, done: float, total: float) -> None:
        self.board.progress = (label, done, total)

    @careful
    def note(self, text: str) -> None:
        self._say(Text(plain(text)))

    @careful
    def verdict(self, kind: str, decision: str, reasons: Sequence[str]) -> None:
        said = verdict_text(kind, decision)
        self.board.verdicts = {**self.board.verdicts, kind: said}
        self._say(said)
        for reason in reasons:
            self._say(Text(f"  {plain(reason)}", "dim"))

    @careful
    def gain(self, skill: str, before: float, after: float, low: float, high: float) -> None:
        said = gain_text(skill, before, after, low, high)
        self.board.gains = {**self.board.gains, skill: said}
        self._say(said)

    @careful
    def tokens(self, n: int) -> None:
        self.board.tokens += n

    @careful
    def end(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _say(self, text: Text) -> None:
        stamp = Text(f"{clock(time.monotonic() - self.board.began):>7} ", "dim")
        self.console.print(stamp.append_text(text), highlight=False)

    def _draw(self) -> RenderableType:
        """Called by Rich's own thread, where an exception would end the redrawing."""
        try:
            return render(self.board, time.monotonic())
        except Exception as error:
            self.complain(error)
            return Text("the view failed; the run goes on")


class PlainView(_Careful):
    """One line an event on stderr; of a worker only its start and its end."""

    def __init__(self, write: Callable[[str], object] | None = None) -> None:
        super().__init__()
        self._write = write or (lambda line: print(line, file=sys.stderr, flush=True))
        self._began = time.monotonic()
        self._rounds = 0
        self._said: dict[str, float] = {}

    @careful
    def begin(self, title: str, rounds: int, facts: dict[str, str]) -> None:
        self._rounds = rounds
        self._say(title)
        for name, value in facts.items():
            self._say(f"{name}: {value}")

    @careful
    def round(self, number: int) -> None:
        self._say(f"round {number} of {self._rounds}")

    @careful
    def station(self, name: str) -> None:
        self._said = {}
        self._say(f"station: {name.replace('_', ' ')}")

    @careful
    def worker(self, event: dict[str, Any]) -> None:
        if event.get("event") == "started":
            self._say(f"{event['worker']} started: {event['total']} tasks of {event['skill']}")
        elif event.get("event") == "ended":
            self._say(ended_text(event))

    @careful
    def progress(self, label: str, done: float, total: float) -> None:
        what, now = label.split(",")[0], time.monotonic()
        if done < total and now - self._said.get(what, -PROGRESS_S) < PROGRESS_S:
            return
        self._said[what] = now
        self._say(f"{label}: {done:g} of {total:g}")

    @careful
    def note(self, text: str) -> None:
        self._say(text)

    @careful
    def verdict(self, kind: str, decision: str, reasons: Sequence[str]) -> None:
        self._say(verdict_text(kind, decision).plain + "".join(f" | {r}" for r in reasons))

    @careful
    def gain(self, skill: str, before: float, after: float, low: float, high: float) -> None:
        self._say(gain_text(skill, before, after, low, high).plain)

    @careful
    def tokens(self, n: int) -> None:
        """Totals stand in the closing screen."""

    @careful
    def end(self) -> None:
        """Every line is out already."""

    def _say(self, text: str) -> None:
        self._write(f"[{clock(time.monotonic() - self._began):>7}] {plain(text)}")


class SilentView:
    """Shows nothing."""

    def begin(self, title: str, rounds: int, facts: dict[str, str]) -> None: ...
    def round(self, number: int) -> None: ...
    def station(self, name: str) -> None: ...
    def worker(self, event: dict[str, Any]) -> None: ...
    def progress(self, label: str, done: float, total: float) -> None: ...
    def note(self, text: str) -> None: ...
    def verdict(self, kind: str, decision: str, reasons: Sequence[str]) -> None: ...
    def gain(self, skill: str, before: float, after: float, low: float, high: float) -> None: ...
    def tokens(self, n: int) -> None: ...
    def end(self) -> None: ...
