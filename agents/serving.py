"""The run's own engine, started when a station first needs it, on the checkpoint that it needs.

A resumed run that only waits for a verdict starts none. Whatever ran before, what
is served afterwards is the checkpoint that was asked for: the engine of a fresh process knows the
origin only.
Does not cover: the supervisor's engine, which is its own (`supervisor.bench`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from agents.desk import EndpointAddress
from regent.models.endpoint import Endpoint
from regent.models.engine import Engine
from regent.records import Checkpoint


class Serving:
    """The champion and its successors, one at a time, from the folders under `checkpoints`."""

    def __init__(
        self,
        checkpoints: Path,
        start: Callable[[], Engine],
        note: Callable[[str], None],
        timeout_s: float,
    ) -> None:
        """`start` starts an engine on the origin; `note` is told what a person should know."""
        self.checkpoints, self.timeout_s = checkpoints, timeout_s
        self._start, self._note = start, note
        self._engine: Engine | None = None

    def speaker(self, checkpoint: Checkpoint) -> Endpoint:
        """The checkpoint as a speaker; another one is served as soon as it is asked for.

        Raises CannotRun where the engine does not start or does not serve these weights.
        """
        return self._serving(checkpoint).speaker()

    def address(self, checkpoint: Checkpoint) -> EndpointAddress:
        """Where the checkpoint can be asked, named by its record. Raises as `speaker` does."""
        engine = self._serving(checkpoint)
        return EndpointAddress(
            engine.base_url,
            engine.model_name,
            engine.api_key,
            checkpoint.id,
            self.timeout_s,
        )

    def alive(self) -> bool:
        """Whether an engine was started and still answers (waits up to 15 s)."""
        return self._engine is not None and self._engine.alive()

    def stop(self) -> None:
        """End the engine, if there is one. Idempotent."""
        if self._engine is not None:
            self._engine.stop()

    def _serving(self, checkpoint: Checkpoint) -> Engine:
        if self._engine is None:
            self._note("starting the engine (half a minute)")
            began = time.monotonic()
            self._engine = self._start()
            reason = f", {self._engine.reason}" if self._engine.reason else ""
            took = time.monotonic() - began
            self._note(f"{self._engine.backend} serves after {took:.0f} s{reason}")
        self._engine.ensure()
        self._engine.switch(self.checkpoints / checkpoint.name)
        return self._engine
