"""Responses of one speaker to prompts, drawn once and kept in the supervisor's own folder.

A reference's responses serve every later look, and a look that is redone after a crash finds its
candidate's responses again: the key is the speaker's name (a checkpoint's content-derived id), the
prompt, and how it was sampled. A failed reply is never kept and never counted: it raises.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from regent.models.speaker import Sampling, Speaker
from regent.records import canonical_json, digest
from supervisor.diffing.prompts import Prompt


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

        Raises RuntimeError if the speaker failed to answer: a missing answer is not an empty one.
        """
        key = digest(canonical_json([speaker.name, asdict(how)]))
        kept = self._load(key)
        missing = [p for p in prompts for _ in range(samples - len(kept.get(p.id, [])))]
        if missing:
            replies = speaker.sample([p.turns for p in missing], how)
            failed = [reply.error for reply in replies if not reply.ok]
            if failed:
                raise RuntimeError(
                    f"{len(failed)} of {len(replies)} answers of {speaker.name} failed: {failed[0]}"
                )
            if len(replies) != len(missing):
                raise RuntimeError(
                    f"{speaker.name} gave {len(replies)} answers to {len(missing)} prompts"
                )
            for prompt, reply in zip(missing, replies, strict=True):
                kept.setdefault(prompt.id, []).append(reply.text)
                self.tokens += reply.tokens
            self._save(key, kept)
        return [(p.id, kept[p.id][:samples]) for p in prompts]

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
