"""A checkpoint as a speaker over the supervisor's own engine.

One engine serves one checkpoint at a time; each speaker sees to it that its own weights answer
before it asks. `name` is the checkpoint's id, so what is kept of its answers is kept under content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from regent.models.engine import Engine
from regent.models.speaker import Conversation, Reply, Sampling, Speaker

_ATTEMPTS = 3


class ServedCheckpoint:
    """Keeps the Speaker protocol. `engine` is called late, so that it starts beside other work.

    `serving` says which folder the engine serves now, or None: `ready_first` goes by it.
    """

    can = frozenset({"sample"})

    def __init__(
        self,
        name: str,
        folder: Path,
        engine: Callable[[], Engine],
        serving: Callable[[], Path | None] = lambda: None,
    ) -> None:
        self.name, self.folder, self._engine, self._serving = name, folder, engine, serving

    @property
    def ready(self) -> bool:
        """Whether its own weights are served already."""
        return self._serving() == self.folder.resolve()

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        """One reply a conversation. A dead engine is restarted; only what failed is asked again."""
        engine = self._engine()
        replies: list[Reply | None] = [None] * len(conversations)
        for _ in range(_ATTEMPTS):
            open_ = [i for i, reply in enumerate(replies) if reply is None or not reply.ok]
            if not open_:
                break
            engine.ensure()
            engine.switch(self.folder)
            answered = engine.speaker().sample([conversations[i] for i in open_], how)
            for i, reply in zip(open_, answered, strict=True):
                replies[i] = reply
        return [reply or Reply("", finish="error", error="never asked") for reply in replies]


def ready_first(speakers: Iterable[Speaker]) -> list[Speaker]:
    """Each speaker once; whoever can answer without a switch of weights first, the rest as given.

    A switch costs some seconds, so whoever spoke last should speak first.
    """
    by_name = {speaker.name: speaker for speaker in speakers}
    return sorted(by_name.values(), key=lambda speaker: not getattr(speaker, "ready", False))
