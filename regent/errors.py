"""Errors that a person is meant to read: one clear line (what, and the mend), exit code 2.

`CannotRun` carries the line; every command runs inside `one_line`, which prints it. A full disk
may show anywhere, under any library's error, so it is recognised here. Anything else that escapes
is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator


class CannotRun(Exception):
    """Regent could not run: the message names the offender and the mend, in one line."""


@contextlib.contextmanager
def one_line(stopped: str = "stopped") -> Iterator[None]:
    """Prints CannotRun and a full disk as `regent: …` on stderr and exits with 2.

    `stopped` is what Ctrl-C says.
    """
    try:
        yield
    except CannotRun as error:
        _end(str(error))
    except KeyboardInterrupt:
        _end(stopped)
    except Exception as error:
        if not is_full_disk(error):
            raise
        _end("the disk is full; free some space, then repeat the command (`regent resume RUN`)")


def is_full_disk(error: BaseException) -> bool:
    """Whether a full disk (or quota) is behind `error`, by any error in its chain."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "database or disk is full" in str(link):  # SQLite's own words, whoever passes them on
            return True
        link = link.__cause__ or link.__context__
    return False


def _end(line: str) -> None:
    print(f"regent: {line}", file=sys.stderr)
    raise SystemExit(2)
