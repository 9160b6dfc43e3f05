"""Speakers by model name for the gate alone.

Local weights share one engine; endpoints are asked as they are.
A local speaker is named by the digest of its weights, so what is kept of its answers is kept under
content and serves the next look.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from regent.config import EngineConfig
from regent.errors import CannotRun
from regent.models.endpoint import Endpoint
from regent.models.engine import Engine
from regent.models.names import parse, resolve, weights_folder
from regent.models.speaker import Speaker
from regent.models.weights import checkpoint_digest
from regent.records import digest
from supervisor.served import ServedCheckpoint


@dataclass
class Voices:
    """Makes speakers; `close` stops the engine that they share."""

    log_folder: Path
    engine: Engine | None = None
    config: EngineConfig = field(default_factory=EngineConfig)

    def speaker(self, name: str) -> Speaker:
        """Raises CannotRun where the name does not resolve."""
        parts = parse(name)
        if parts.url:
            served = resolve(name)
            if isinstance(served, Endpoint):
                served.timeout_s = self.config.request_timeout_s
            return served
        if parts.adapter is not None:
            # Sampled by Transformers; named by content, as a new adapter may lie in an old folder.
            voice = resolve(name)
            folders = (weights_folder(parts.base), parts.adapter)
            weights = [checkpoint_digest(folder) for folder in folders]
            voice.name = digest("+".join(weights).encode())
            return voice
        folder = weights_folder(name)
        return ServedCheckpoint(
            checkpoint_digest(folder),
            folder,
            lambda: self._served(folder),
            lambda: self.engine.folder if self.engine else None,
        )

    def close(self) -> None:
        if self.engine is not None:
            self.engine.stop()

    def _served(self, folder: Path) -> Engine:
        if self.engine is None:
            try:
                self.engine = Engine.start(folder, self.config, self.log_folder)
            except OSError as error:
                raise CannotRun(f"{self.log_folder}: {error.strerror or error}") from error
        return self.engine
