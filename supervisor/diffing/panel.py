"""Responses of one speaker to prompts, drawn once and kept in the supervisor's own folder.

A reference's responses serve every later look, and a look that is redone after a crash finds its
candidate's responses again: the key is the speaker's name (a checkpoint's content-derived id), the
prompt, and how it was sampled. A failed reply is never kept and never counted: it raises, and
what was answered beside it is kept for the next time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from regent.errors import CannotRun
from regent.models.speaker import Sampling, Speaker
from regent.records import canonical_json, digest
from supervisor.diffing.prompts import Prompt

_AT_ONCE = 512  # four times what an engine works on at once


class Panel:
    """Asks, remembers and counts. `folder` None remembers nothing beyond this object."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.tokens = 0
        self._kept: dict[str, dict[str, list[str]]] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def ask(
        self, speaker: Speaker, prompts: Sequence[Prompt], samples: int, how: Sampling
    ) -> list[tuple[str, list[str]]]:
        """`samples` responses to each prompt, in order: [(prompt id, responses)].

        Asked and kept some hundreds at a time, so that a long asking can be taken up again.
        Raises CannotRun if the speaker failed to answer: a missing answer is not an empty one.
        """
        key = digest(canonical_json([speaker.name, asdict(how)]))
        kept = self._load(key)
        missing = [p for p in prompts for _ in range(samples - len(kept.get(p.id, [])))]
        for start in range(0, len(missing), _AT_ONCE):
            self._ask(speaker, missing[start : start + _AT_ONCE], how, key, kept)
        return [(p.id, kept[p.id][:samples]) for p in prompts]

    def _ask(
        self,
        speaker: Speaker,
        prompts: Sequence[Prompt],
        how: Sampling,
        key: str,
        kept: dict[str, list[str]],
    ) -> None:
        replies = speaker.sample([p.turns for p in prompts], how)
        if len(replies) != len(prompts):
            raise CannotRun(
                f"{speaker.name} gave {len(replies)} answers to {len(prompts)} prompts; "
                "its server must give one each"
            )
        failed = [reply.error for reply in replies if not reply.ok]
        for prompt, reply in zip(prompts, replies, strict=True):
            if reply.ok:
                kept.setdefault(prompt.id, []).append(reply.text)
                self.tokens += reply.tokens
        if len(failed) < len(replies):
            self._save(key, kept)
        if failed:
            raise CannotRun(
                f"{len(failed)} of {len(replies)} answers of {speaker.name} failed: {failed[0]}; "
                "the others are kept: when it answers again, repeat the command"
            )

    def _load(self, key: str) -> dict[str, list[str]]:
        if key not in self._kept:
            path = self.folder / f"{key}.json" if self.folder else None
            self._kept[key] = json.loads(path.read_text("utf-8")) if path and path.exists() else {}
        return self._kept[key]

    def _save(self, key: str, kept: dict[str, list[str]]) -> None:
        if self.folder is None:
            return
        partial = self.folder / f"{key}.part"
        partial.write_text(json.dumps(kept, ensure_ascii=False), "utf-8")
        partial.replace(self.folder / f"{key}.json")
