"""The run's error budget: how much of α each look may spend, kept on disk.

Look t is tested at α_t = α · 6 / (π² t²). These sum to α over unboundedly many looks (Basel
problem), so by the union bound the chance that an unacceptable subject is ever approved is at most
α, whatever the candidates, and even if an adversary chooses each after seeing all verdicts before.

Does not cover: looks whose required measurements are all exact. They have no sampling error, and
spend nothing.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from regent.errors import CannotRun


@dataclass(frozen=True)
class Reservation:
    """Look `number` (from 1), the level its measurements must reach, and the α it spends."""

    number: int
    level: float
    alpha: float


def share(alpha: float, number: int) -> float:
    """α_t of look `number`, counted from 1."""
    if number < 1:
        raise ValueError(f"looks are numbered from 1, not {number}")
    return alpha * 6 / (math.pi * number) ** 2


class Budget:
    """Looks reserved so far, in `path` (JSON, replaced atomically; one writer at a time).

    Raises CannotRun if the file does not parse or was begun with another α: a budget that cannot
    be read is never begun anew.
    """

    def __init__(self, path: Path, alpha: float) -> None:
        if not 0 < alpha < 1:
            raise CannotRun(f"alpha must lie in (0, 1), not {alpha}; mend the policy")
        self.path, self.alpha = path, alpha
        self._read()

    def reserve(self, subject: str) -> Reservation:
        """The look of `subject`: a new one the first time, the same again whenever asked after."""
        with self._locked():
            looks = self._read()
            if subject not in looks:
                looks[subject] = len(looks) + 1
                self._write(looks)
        alpha = share(self.alpha, looks[subject])
        return Reservation(looks[subject], 1 - alpha, alpha)

    @property
    def looks(self) -> int:
        """How many looks have been reserved."""
        return len(self._read())

    @property
    def spent(self) -> float:
        """Sum of the α_t reserved so far; below `alpha` for ever."""
        return sum(share(self.alpha, number) for number in self._read().values())

    def _read(self) -> dict[str, int]:
        mend = "restore it from a copy, or begin a new run"
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            alpha, looks = float(kept["alpha"]), {str(k): int(v) for k, v in kept["looks"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CannotRun(f"{self.path}: the error budget cannot be read; {mend}") from error
        if sorted(looks.values()) != list(range(1, len(looks) + 1)):
            raise CannotRun(f"{self.path}: the error budget misses looks; {mend}")
        if alpha != self.alpha:
            raise CannotRun(
                f"{self.path}: begun with alpha = {alpha:g}, and the policy says {self.alpha:g}; "
                "give the policy its alpha back, or begin a new run"
            )
        return looks

    def _write(self, looks: dict[str, int]) -> None:
        body = json.dumps({"alpha": self.alpha, "looks": looks}, indent=1)
        draft = self.path.with_suffix(f".{os.getpid()}.draft")
        try:
            with draft.open("w", encoding="utf-8") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise CannotRun(
                f"{self.path}: {error.strerror or error}; the error budget must be kept on disk"
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = self.path.with_suffix(".lock").open("w")
        except OSError as error:
            raise CannotRun(
                f"{self.path}: {error.strerror or error}; give the supervisor a folder it can write"
            ) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
