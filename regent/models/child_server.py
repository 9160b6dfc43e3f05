"""A server as a child process: started under its guard, asked for its health, always stopped.

Covers the process, its log and its port on the loopback interface. Does not know what is served:
see `engine`.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from regent.errors import CannotRun
from regent.models.engine_guard import end_group
from regent.models.engine_key import KEY_VARIABLE

_ROOT = Path(__file__).resolve().parents[2]
_POLL_S = 0.2
_HEALTH_S = 15.0
_STOP_S = 15.0


class ChildServer:
    """One server on 127.0.0.1:`port`, which can be started anew on the same address and key."""

    def __init__(self, port: int, key: str, log_folder: Path, timeout_s: float) -> None:
        self.port = port
        self.log_path = log_folder / "engine.log"
        self._pid_path = log_folder / f"engine-{port}.pid"
        self._key = key
        self._guard: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=timeout_s,
            trust_env=False,
        )

    @property
    def pid(self) -> int:
        """The server's process id, which is its group's. Raises CannotRun where it does not run."""
        try:
            return int(self._pid_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CannotRun("the engine is not running; start it") from error

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], timeout_s: float
    ) -> None:
        """Run `command` under the guard until its /health answers.

        Raises CannotRun, with the last words of its log, where it ends or `timeout_s` passes first.
        """
        self.stop()
        atexit.register(self.stop)
        log_from = self.log_path.stat().st_size if self.log_path.exists() else 0
        guard = [sys.executable, "-m", "regent.models.engine_guard", str(self._owner)]
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        with self.log_path.open("ab") as log:
            self._guard = subprocess.Popen(
                [*guard, str(self._pid_path), "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment, "PYTHONPATH": path, KEY_VARIABLE: self._key},
                start_new_session=True,
            )
        began = time.monotonic()
        while not self._answers(timeout_s=5.0):
            waited = time.monotonic() - began
            ended = self._guard.poll() is not None
            if ended or waited > timeout_s:
                what = "ended" if ended else f"did not answer within {waited:.0f} s"
                self.stop()
                words = last_words(self.log_path, log_from)
                raise CannotRun(f"the server {what} ({words}); see {self.log_path}")
            time.sleep(_POLL_S)

    def alive(self) -> bool:
        """Whether the process runs and answers that it is well."""
        running = self._guard is not None and self._guard.poll() is None
        return running and self._answers(_HEALTH_S)

    def stop(self) -> None:
        """End the server and all its processes. Idempotent; does nothing in a forked child."""
        guard, self._guard = self._guard, None
        if guard is None or os.getpid() != self._owner:
            return
        atexit.unregister(self.stop)
        if guard.poll() is None:
            guard.send_signal(signal.SIGTERM)
        try:
            guard.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            guard.kill()
            guard.wait()
        if guard.returncode < 0 and self._pid_path.exists():  # the guard was killed itself
            end_group(self.pid)
        self._pid_path.unlink(missing_ok=True)

    def _answers(self, timeout_s: float) -> bool:
        try:
            return self.client.get("/health", timeout=timeout_s).is_success
        except httpx.HTTPError:
            return False


def free_port(port: int) -> int:
    """`port`, or a free one for 0. Raises CannotRun where it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise CannotRun(
                f"port {port}: {reason}; free it or set engine.port to another (0 takes a free one)"
            ) from error
        return int(probe.getsockname()[1])


def last_words(log_path: Path, log_from: int = 0) -> str:
    """What the log says, from byte `log_from`, about why the server ended: one line."""
    try:
        lines = log_path.read_bytes()[log_from:].decode(errors="replace").splitlines()[-300:]
    except OSError:
        return "it left no log"
    plain = [re.sub(r"\x1b\[[0-9;]*m|^\(\w+ pid=\d+\)\s*", "", line).strip() for line in lines]
    told = [line for line in plain if line and not re.match(r"(DEBUG|INFO|WARNING)\b", line)]
    # The first error is the cause ("see root cause above" comes later); pydantic's goes on below.
    errors = [i for i, line in enumerate(told) if re.search(r"(Error|Exception): ", line)]
    if errors:
        first = errors[0]
        lines_long = 3 if "validation error" in told[first] else 1
        said = " ".join(told[first : first + lines_long])
    else:
        said = told[-1] if told else "it said nothing"
    return said[:300]
