"""A view shows what the run tells it, takes what models wrote as text, and never ends a run."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from agents import live
from agents.board import STATIONS, Board, count, gain_text, render
from agents.live import LiveView, PlainView, SilentView, View, make_view

WORKER = "experiment-r1-00-chain_sum"
STARTED: dict[str, Any] = {
    "event": "started",
    "worker": WORKER,
    "skill": "chain_sum",
    "plan": "p",
    "done": 0,
    "total": 8,
    "tokens": 0,
    "elapsed_s": None,
}
PROGRESS = STARTED | {"event": "progress", "done": 3, "tokens": 1200, "elapsed_s": 4.0}
ENDED: dict[str, Any] = {
    "event": "ended",
    "worker": WORKER,
    "skill": "chain_sum",
    "plan": "p",
    "outcomes": {"verified": 5, "refuted": 3},
    "tokens": 2400,
    "seconds": 9.0,
    "detail": "",
}


def drawn(board: Board, now: float = 0.0, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(render(board, now))
    return console.export_text()


def tell(view: View) -> None:
    """A whole round, as the loop tells it."""
    view.begin("Regent runs/a", 1, {"dashboard": "http://127.0.0.1:8265"})
    view.round(1)
    for name in STATIONS:
        view.station(name)
        view.worker(STARTED)
        view.worker(PROGRESS)
        view.worker(ENDED)
        view.worker({"event": "suggestion", "plan": "p", "why": "more"})
        view.progress("training, loss 0.431", 3, 60)
    view.note("planned [bold]nothing[/bold] \x1b[31mred")
    view.verdict("batch", "veto", ["diff: beyond the tolerance"])
    view.gain("reasoning/chain_sum", 0.25, 0.75, 0.3, 0.66)
    view.tokens(1000)
    view.end()
    view.end()


def test_the_board_shows_each_worker_its_tasks_and_tokens_within_80_columns() -> None:
    board = Board(rounds=2)
    board.enter_round(1)
    board.enter("experiment", 0.0)
    board.tokens = 1000
    for event in (STARTED, PROGRESS):
        board.heard(event)
    text = drawn(board, 65.0)
    assert "round 1 of 2 · 1:05 elapsed · — left · 2.2k tokens" in text
    assert "[experiment]" in text
    row = next(line for line in text.splitlines() if WORKER in line)
    assert "3/8 tasks 1.2k tok" in row
    assert max(map(len, text.splitlines())) <= 80
    board.heard(ENDED)
    assert "experiments ended this round: 1 (3 refuted, 5 verified)" in drawn(board)
    assert board.all_tokens() == 1000  # the ended one's are counted when they are kept


def test_time_left_is_unknown_until_every_station_that_is_due_was_seen() -> None:
    board, now = Board(rounds=3), 0.0
    for number in (1, 2):
        board.enter_round(number)
        for name in STATIONS:
            board.enter(name, now)
            if number == 1:
                assert board.seconds_left(now) is None
            else:
                # What is left of this round and one more, at ten seconds a station.
                due = 8 - STATIONS.index(name) + 8
                assert board.seconds_left(now) == pytest.approx(10.0 * due)
            now += 10.0


def test_a_gain_is_called_surely_higher_only_if_its_interval_excludes_zero() -> None:
    assert gain_text("s", 0.2, 0.6, 0.1, 0.6).plain.startswith("▲ s 20% → 60%")
    assert "includes zero" in gain_text("s", 0.2, 0.6, -0.01, 0.6).plain
    assert gain_text("s", 0.6, 0.2, -0.6, -0.1).plain.startswith("▼")


def test_the_plain_view_writes_one_line_an_event_and_of_workers_only_start_and_end() -> None:
    lines: list[str] = []
    tell(PlainView(lines.append))
    assert all("\n" not in line and "\x1b" not in line for line in lines)
    about = [line for line in lines if WORKER in line]
    assert len(about) == 2 * len(STATIONS)
    assert "started: 8 tasks of chain_sum" in about[0]
    assert "ended: 3 refuted, 5 verified, 2.4k tokens, 9 s" in about[1]
    assert any("planned [bold]nothing[/bold] [31mred" in line for line in lines)
    assert any("✗ batch: veto | diff: beyond the tolerance" in line for line in lines)


def test_the_plain_view_throttles_progress_but_says_the_end() -> None:
    lines: list[str] = []
    view = PlainView(lines.append)
    for step in range(1, 61):
        view.progress(f"training, loss {1 / step:.3f}", step, 60)
    assert len(lines) == 2
    assert lines[-1].endswith("60 of 60")


def test_the_live_view_keeps_verdicts_gains_and_notes_in_the_scrollback() -> None:
    out = io.StringIO()
    tell(LiveView(Console(file=out, force_terminal=True, width=80, color_system=None)))
    text = out.getvalue()
    for claim in ("planned [bold]nothing[/bold]", "batch: veto", "chain_sum 25% → 75%"):
        assert claim in text, claim
    assert "\x1b[31mred" not in text


def test_a_view_that_fails_says_so_once_and_never_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complaints = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", complaints)

    def broken(line: str) -> object:
        raise OSError("the terminal is gone")

    tell(PlainView(broken))
    assert complaints.getvalue().count("the view failed") == 1
    assert "the terminal is gone" in complaints.getvalue()


def test_a_drawing_that_fails_leaves_the_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    complaints = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", complaints)

    def broken(board: Board, now: float) -> object:
        raise KeyError("skill")

    monkeypatch.setattr(live, "render", broken)
    tell(LiveView(Console(file=io.StringIO(), force_terminal=True, width=80)))
    assert complaints.getvalue().count("the view failed") == 1


def test_without_a_terminal_the_view_is_plain_and_silent_is_a_view(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = make_view(json=False)
    assert isinstance(view, PlainView)
    tell(view)
    tell(SilentView())
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Regent runs/a" in shown.err


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0"), (999, "999"), (1000, "1.0k"), (99_960, "100k"), (4_100_000, "4.1M")]
)
def test_counts_are_short(n: int, text: str) -> None:
    assert count(n) == text
