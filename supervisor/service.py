"""The supervisor as a process of its own: gate, ledger, vault and MLflow view behind one pipe.

The loop's driver sends records and gets records back: it writes no row, sees no gate item and
asks no instrument, and a worker reaches nothing of it at all. When the driver ends, however it
ends, this process ends at once, in the middle of a judgement too, and its engine with it: two
supervisors never judge in one folder.

Does not cover: protection from another process of the same user (that is the operating system's;
see docs/questions.md).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from regent.config import RunConfig
from regent.errors import CannotRun
from regent.records import Batch, Checkpoint, Example, Record, Verdict

Entry = tuple[str, Record | dict[str, Any], str | None]


class Supervisor:
    """The driver's end of the pipe. One call at a time; each returns plain records and dicts.

    Raises CannotRun where the supervisor says so in one line, or has died.
    """

    def __init__(self, folder: Path, config: RunConfig) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(theirs, folder.resolve(), config),
            name="regent-supervisor",
            daemon=False,
        )
        self._lock = threading.Lock()
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def call(self, verb: str, **arguments: Any) -> Any:
        """Ask for `verb` of `supervisor.bench.Bench`."""
        with self._lock:
            try:
                self._pipe.send((verb, arguments))
                fine, answer = self._pipe.recv()
            except (EOFError, OSError) as error:
                raise CannotRun(
                    "the supervisor's process ended; `regent resume` goes on"
                ) from error
        if not fine:
            raise CannotRun(answer)
        return answer

    def append(self, entries: Sequence[Entry]) -> None:
        """Rows for the ledger; each is written once, however often it is sent."""
        self.call("append", entries=list(entries))

    def judge_batch(
        self,
        batch: Batch,
        data: bytes,
        examples: Sequence[Example],
        references: dict[str, Checkpoint],
    ) -> dict[str, Any]:
        """`verdict`, `released` (digest or empty), `canaries`, `costs` (seconds by instrument)."""
        answer: dict[str, Any] = self.call(
            "judge_batch", batch=batch, data=data, examples=list(examples), references=references
        )
        return answer

    def judge_checkpoint(
        self, checkpoint: Checkpoint, references: dict[str, Checkpoint], targets: Sequence[str]
    ) -> dict[str, Any]:
        """`verdict` and `costs`."""
        answer: dict[str, Any] = self.call(
            "judge_checkpoint", checkpoint=checkpoint, references=references, targets=list(targets)
        )
        return answer

    def stop(self) -> None:
        """End the supervisor and its engine. Safe to call twice."""
        with contextlib.suppress(OSError):
            self._pipe.close()
        self._process.join(timeout=30)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(timeout=10)


def _serve(pipe: Connection, folder: Path, config: RunConfig) -> None:
    """The process's main loop: ends when the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    end_with_the_driver()
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = os.open(logs / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from supervisor.bench import Bench  # after the log is in place: it imports torch

    bench = None
    try:
        try:
            bench = Bench(folder, config)
        except CannotRun as error:
            _answer_all(pipe, str(error))
            return
        while True:
            try:
                verb, arguments = pipe.recv()
            except (EOFError, OSError):
                return
            try:
                answer = (True, getattr(bench, verb)(**arguments))
            except CannotRun as error:
                answer = (False, str(error))
            except Exception as error:
                traceback.print_exc()
                told = " ".join(str(error).split())[:300]
                answer = (False, f"the supervisor failed at {verb}: {type(error).__name__}: {told}")
            pipe.send(answer)
    finally:
        if bench is not None:
            bench.stop()


def end_with_the_driver() -> None:
    """From now on this process is gone as soon as its parent is, as if killed with it.

    The pipe alone would say so only when an answer is sent, minutes after a judgement began. What
    was being written is found unfinished by whoever resumes, as after any kill.
    """
    driver = multiprocessing.parent_process()
    if driver is None:
        return

    def watch() -> None:
        wait([driver.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="driver-watch", daemon=True).start()


def _answer_all(pipe: Connection, line: str) -> None:
    """A supervisor that could not start says why to whatever it is asked."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.recv()
            pipe.send((False, line))


def verdict_of(answer: dict[str, Any]) -> Verdict:
    verdict = answer["verdict"]
    if not isinstance(verdict, Verdict):
        raise CannotRun("the supervisor answered without a verdict")
    return verdict
