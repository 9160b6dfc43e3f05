"""What is expected prints one line and exits 2; a defect keeps its traceback."""

from __future__ import annotations

import errno
import sqlite3

import pytest

from regent.errors import CannotRun, is_full_disk, one_line


def _line(error: BaseException, capsys: pytest.CaptureFixture[str], stopped: str = "") -> str:
    with pytest.raises(SystemExit) as ended, one_line(stopped):
        raise error
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


def test_cannot_run_is_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert _line(CannotRun("x: gone; bring it back"), capsys) == "regent: x: gone; bring it back\n"


def test_ctrl_c_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert _line(KeyboardInterrupt(), capsys, "resume it") == "regent: resume it\n"


@pytest.mark.parametrize(
    "full",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        sqlite3.OperationalError("database or disk is full"),
    ],
)
def test_a_full_disk_is_seen_through_any_library(
    full: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    wrapped = RuntimeError("the library could not save")
    wrapped.__cause__ = ValueError("in between")
    wrapped.__cause__.__context__ = full
    assert is_full_disk(wrapped)
    assert "disk is full" in _line(wrapped, capsys)


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), one_line():
        _ = 1 / 0
    looped = ValueError("a")
    looped.__cause__ = KeyError("b")
    looped.__cause__.__context__ = looped
    assert not is_full_disk(looped)
