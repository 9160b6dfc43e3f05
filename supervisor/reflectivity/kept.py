"""Replies of a speaker, kept as they come: the same question, drawn alike, is asked once.

A long asking that a dead server broke off is taken up where it was. A failed reply is never kept:
it raises, and what was answered beside it stays.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from regent.errors import CannotRun
from regent.models.speaker import Conversation, Reply, Sampling, Speaker
from regent.records import canonical_json, digest


class Kept:
    """A Speaker before another, with its replies in one JSONL file of `folder`.

    `tokens` counts every reply that was given, kept or fresh; `asked` the fresh ones alone.
    """

    can = frozenset({"sample"})

    def __init__(self, speaker: Speaker, folder: Path) -> None:
        self.speaker, self.name = speaker, speaker.name
        self.path = folder / f"{digest(speaker.name.encode())[:24]}.jsonl"
        self.tokens = self.asked = 0
        self._replies: dict[str, Reply] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lines = self.path.read_text("utf-8").splitlines() if self.path.is_file() else []
        except OSError as error:
            raise CannotRun(f"{folder}: {error.strerror or error}; name a folder") from error
        for line in lines:
            try:
                key, fields = json.loads(line)
                self._replies[key] = Reply(**fields)
            except (ValueError, TypeError):
                continue  # cut off in the middle of writing: it is asked again

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        """One reply a conversation, in order. Raises CannotRun where one failed."""
        keys = [_key(conversation, how) for conversation in conversations]
        missing = {k: c for k, c in zip(keys, conversations, strict=True) if k not in self._replies}
        if missing:
            fresh = self.speaker.sample(list(missing.values()), how)
            good = {k: reply for k, reply in zip(missing, fresh, strict=True) if reply.ok}
            self._keep(good)
            if failed := [reply.error for reply in fresh if not reply.ok]:
                raise CannotRun(
                    f"{self.name} failed to answer ({failed[0]}); what it answered before is "
                    "kept: when it answers again, repeat the command"
                )
        self.tokens += sum(self._replies[key].tokens for key in keys)
        return [self._replies[key] for key in keys]

    def _keep(self, replies: dict[str, Reply]) -> None:
        self._replies.update(replies)
        self.asked += len(replies)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                for key, reply in replies.items():
                    file.write(json.dumps([key, asdict(reply)]) + "\n")
        except OSError as error:
            raise CannotRun(f"{self.path}: {error.strerror or error}; free some space") from error


def _key(conversation: Conversation, how: Sampling) -> str:
    said = [[turn.role, turn.content] for turn in conversation]
    return digest(canonical_json([said, asdict(how)]))
