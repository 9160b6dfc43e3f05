"""Runs a server so that it cannot outlive the process that wanted it.

`python -m regent.models.engine_guard PARENT_PID PID_FILE -- COMMAND...` starts COMMAND in a process
group of its own, writes its process id to PID_FILE and waits. When PARENT_PID vanishes (kill -9
included), on SIGTERM or SIGINT, or when COMMAND itself ends, every process of the group is ended
and the guard exits with COMMAND's status.
Does not cover descendants that leave the group for a session of their own (vLLM's do not), nor,
outside Linux, a guard that is itself killed with SIGKILL.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

_POLL_S = 0.25
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def group_alive(group: int) -> bool:
    """Whether a process of the group exists (one that is dead but not yet reaped counts)."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS answers so for a group of which only zombies are left
        return False
    return True


def end_group(
    group: int, patience_s: float = 5.0, reap: Callable[[], object] = lambda: None
) -> None:
    """SIGTERM to the process group, SIGKILL to what is left after `patience_s`. Idempotent.

    `reap` is called while waiting: a parent of members waits for them there, because the dead whom
    nobody has waited for keep a group in being.
    """
    for what, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, patience_s)):
        try:
            os.killpg(group, what)
        except (ProcessLookupError, PermissionError):
            return
        deadline = time.monotonic() + wait_s
        while group_alive(group) and time.monotonic() < deadline:
            reap()
            time.sleep(0.05)


def guard(parent: int, pid_file: Path, command: Sequence[str]) -> int:
    """Run `command` until it ends or `parent` is gone; returns its exit status."""
    asked_to_stop = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    child = subprocess.Popen(command, start_new_session=True, preexec_fn=_die_with_the_guard)
    try:
        pid_file.write_text(str(child.pid), encoding="utf-8")
        # A parent that died before this line has already been replaced: getppid tells either way.
        while child.poll() is None and not asked_to_stop and os.getppid() == parent:
            time.sleep(_POLL_S)
    finally:
        end_group(child.pid, reap=lambda: _reap(child))
    status = child.wait()
    return status if status >= 0 else 128 - status


def _die_with_the_guard() -> None:
    """In the child, before COMMAND: the kernel ends it should the guard be killed (Linux only)."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def _reap(leader: subprocess.Popen[bytes]) -> None:
    # Orphans of the group become the guard's (it is their subreaper), so it can wait for them.
    if leader.poll() is None:
        return
    try:
        while os.waitpid(-leader.pid, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def main(arguments: Sequence[str]) -> int:
    """The command line: PARENT_PID PID_FILE -- COMMAND..."""
    if len(arguments) < 4 or arguments[2] != "--" or not arguments[0].isdigit():
        print("usage: engine_guard PARENT_PID PID_FILE -- COMMAND...", file=sys.stderr)
        return 2
    return guard(int(arguments[0]), Path(arguments[1]), arguments[3:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
