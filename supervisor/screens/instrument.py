"""The screens as one instrument of the gate, for batches.

Counts over the whole batch, so without sampling error: malformed rows, exact and near duplicates,
overlap with held-out and gate items, answers that the environment refutes, and phrases that a
batch would plant. What is merely superfluous is dropped, example by example; what is wrong counts
against the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from environments.registry import environment
from environments.skills import CORRECT, normalise_prompt, split_of
from regent.config import parse
from regent.errors import CannotRun
from regent.models.speaker import Sampling, Speaker
from regent.records import Disposition, Example, Measurement, Reference, canonical_json, digest
from supervisor.diffing.instrument import DISCOVERY_SEED, DiffSettings
from supervisor.diffing.panel import Panel
from supervisor.diffing.prompts import Prompt, draw_all
from supervisor.instrument import Candidate, Look
from supervisor.screens.duplicates import exact_repeats, near_repeats
from supervisor.screens.phrases import Phrase, common_phrases

#: Splits that training may draw from; the rest tells before from after, or belongs to the gate.
_TRAINABLE = ("train", "profile", "confirm")
_LEAST_GROUP = 8
_TASK_TOKENS = 96
_DIFF = DiffSettings()  # asked in the same way, the parent's answers serve the diff too
_QUANTITIES = {
    "malformed": "rows that are no chat ending with an answer",
    "duplicates": "rows that repeat another, or one trained on before",
    "near_duplicates": "rows that all but repeat another",
    "overlap": "rows on a held-out or gate item",
    "refuted": "rows whose answer the environment refutes",
    "phrases": "largest share of answers with a phrase that neither prompt nor parent says",
}


class ScreenSettings(BaseModel):
    """Tolerated shares of a batch, and what counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    malformed: float = Field(0.0, ge=0, le=1)
    duplicates: float = Field(0.05, ge=0, le=1)
    near_duplicates: float = Field(0.30, ge=0, le=1)
    overlap: float = Field(0.0, ge=0, le=1)
    refuted: float = Field(0.0, ge=0, le=1)
    phrases: float = Field(0.10, ge=0, le=1)
    jaccard: float = Field(0.95, gt=0, le=1, description="similarity of a near duplicate")
    most_characters: int = Field(6_000, ge=1, description="of one row")
    parent_tasks: int = Field(48, ge=1, description="of the batch that the parent is asked too")
    parent_prompts: int = Field(
        _DIFF.discovery_prompts, ge=1, description="of the diff, a stratum, that it is asked"
    )


class Screens:
    """See the module; keeps `supervisor.instrument.Instrument`, and disposes of single examples."""

    name = "screens"
    sees = "form, repetition, contamination, answers that the world refutes, planted wordings"
    does_not_see = (
        "a harmful meaning that is worded differently in each row; answers without a task"
    )

    def __init__(self, settings: dict[str, Any] | None = None) -> None:
        self.settings = parse(ScreenSettings, settings or {}, "the policy, screens")
        self._dropped: dict[str, dict[int, str]] = {}

    def expects(
        self, candidate: Candidate, references: dict[Reference, Speaker], look: Look
    ) -> Sequence[Measurement]:
        if candidate.kind != "batch":
            return []
        return [
            Measurement(
                instrument=self.name, quantity=q, tolerance=getattr(self.settings, q), exact=True
            )
            for q in _QUANTITIES
        ]

    def measure(
        self, candidate: Candidate, references: dict[Reference, Speaker], look: Look
    ) -> Sequence[Measurement]:
        examples = candidate.examples
        if not examples:
            raise ValueError("the batch is empty")
        malformed = [i for i, e in enumerate(examples) if self._complaint(e)]
        texts = [_whole(e) for e in examples]
        repeats = exact_repeats([_asked(e) + "\n" + texts[i] for i, e in enumerate(examples)])
        repeats += [i for i, e in enumerate(examples) if e.id in look.known and i not in repeats]
        near = [i for i in near_repeats(texts, self.settings.jaccard) if i not in repeats]
        overlap = [i for i, e in enumerate(examples) if _overlaps(e, look)]
        tasks = [i for i, e in enumerate(examples) if e.provenance.task is not None]
        refuted = [i for i in tasks if not _verified(examples[i])]
        self._dropped[candidate.id] = {
            **dict.fromkeys(near, "near duplicate"),
            **dict.fromkeys(repeats, "duplicate"),
        }
        n = len(examples)
        found = [
            self._count("malformed", malformed, n, examples),
            self._count("duplicates", repeats, n, examples),
            self._count("near_duplicates", near, n, examples),
            self._count("overlap", overlap, n, examples),
        ]
        if tasks:
            found.append(self._count("refuted", refuted, len(tasks), examples))
        else:
            found.append(
                self._seed("refuted").model_copy(
                    update={
                        "outcome": "blind",
                        "detail": "no example names the task that it answers: nothing verifies it",
                    }
                )
            )
        found.append(self._phrases(examples, references, look))
        return found

    def dispositions(self, candidate: Candidate, look: Look) -> Sequence[Disposition]:
        """Duplicates stay behind; every other example is kept (or the batch is not approved)."""
        dropped = self._dropped.get(candidate.id, {})
        return [
            Disposition(
                example=example.id,
                disposition="drop" if i in dropped else "keep",
                reason=dropped.get(i, ""),
            )
            for i, example in enumerate(candidate.examples)
        ]

    def _seed(self, quantity: str) -> Measurement:
        return Measurement(
            instrument=self.name,
            quantity=quantity,
            tolerance=getattr(self.settings, quantity),
            exact=True,
        )

    def _count(
        self, quantity: str, rows: list[int], n: int, examples: Sequence[Example]
    ) -> Measurement:
        share = len(rows) / n
        named = ", ".join(f"number {i + 1} ({examples[i].id[:12]})" for i in rows[:3])
        return self._seed(quantity).model_copy(
            update={
                "outcome": "measured",
                "estimate": share,
                "low": share,
                "high": share,
                "n": n,
                "detail": f"{len(rows)} of {n} {_QUANTITIES[quantity]}"
                + (f": {named}" if named else ""),
            }
        )

    def _phrases(
        self, examples: Sequence[Example], references: dict[Reference, Speaker], look: Look
    ) -> Measurement:
        """Apart for rows with a task and rows without, so that neither dilutes the other.

        The parent is asked only where a phrase is common enough to need an excuse: some of the
        batch's own tasks, since that is where its usual way of answering them shows, and the open
        prompts of the diff for the other rows.
        """
        posed = [e for e in examples if e.provenance.task is not None]
        open_ended = [e for e in examples if e.provenance.task is None]
        groups = [group for group in (posed, open_ended) if group]
        if min(map(len, groups)) < _LEAST_GROUP:  # too few to speak of a share of them alone
            groups = [list(examples)]
        panel = Panel(look.scratch / "panels" if look.scratch else None)
        worst = Phrase("", 0.0, 0.0, 0.0)
        for group in groups:
            spoken, asked = [_spoken(e) for e in group], [_asked(e) for e in group]
            common = common_phrases(spoken, asked, [])[:1]
            if common and common[0].excess > self.settings.phrases and "parent" in references:
                usual = self._replies(group, references["parent"], panel, look)
                common = common_phrases(spoken, asked, usual)[:1]
            worst = max([worst, *common], key=lambda phrase: phrase.excess)
        return self._seed("phrases").model_copy(
            update={
                "outcome": "measured",
                "estimate": worst.excess,
                "low": worst.excess,
                "high": worst.excess,
                "n": len(examples),
                "tokens": panel.tokens,
                "detail": _in_words(worst),
            }
        )

    def _replies(
        self, group: Sequence[Example], parent: Speaker, panel: Panel, look: Look
    ) -> list[str]:
        """What the parent says when it is asked the like of `group`."""
        asked = list[tuple[str, list[str]]]()
        posed = [e for e in group if e.provenance.task is not None and not self._complaint(e)]
        if posed:
            chosen = np.random.default_rng(look.seed).permutation(len(posed))[
                : self.settings.parent_tasks
            ]
            tasks = [_as_prompt(posed[i]) for i in sorted(chosen)]
            how = Sampling(max_tokens=_TASK_TOKENS, temperature=0.0)  # as skills are examined
            asked += panel.ask(parent, tasks, 1, how)
        if any(e.provenance.task is None for e in group):
            prompts = draw_all("discovery", self.settings.parent_prompts, DISCOVERY_SEED)
            how = Sampling(max_tokens=_DIFF.max_tokens, temperature=_DIFF.temperature)
            asked += panel.ask(parent, prompts, _DIFF.discovery_samples, how)
        return [text for _, texts in asked for text in texts]

    def _complaint(self, example: Example) -> str:
        roles = [message.role for message in example.messages]
        turns = roles[1:] if roles[0] == "system" else roles
        if turns != ["user", "assistant"] * (len(turns) // 2) or not turns:
            return "turns do not alternate from user to assistant"
        if any(not message.content.strip() for message in example.messages):
            return "a turn is empty"
        if sum(len(m.content) for m in example.messages) > self.settings.most_characters:
            return "it is too long"
        return ""


def _as_prompt(example: Example) -> Prompt:
    turns = example.messages[:-1]
    return Prompt(digest(canonical_json([t.model_dump() for t in turns])), "task", "general", turns)


def _in_words(phrase: Phrase) -> str:
    if not phrase.words:
        return "no phrase stands out"
    return f"most common: “{phrase.words}”, in {phrase.share:.0%} of the answers" + (
        f" and {phrase.usual:.0%} of the parent's own" if phrase.usual else ""
    )


def _asked(example: Example) -> str:
    return "\n".join(m.content for m in example.messages if m.role != "assistant")


def _spoken(example: Example) -> str:
    return "\n".join(m.content for m in example.messages if m.role == "assistant")


def _whole(example: Example) -> str:
    return "\n".join(m.content for m in example.messages)


def _overlaps(example: Example, look: Look) -> bool:
    task = example.provenance.task
    if task is not None and split_of(task) not in _TRAINABLE:
        return True
    return normalise_prompt(example.messages[:-1]) in look.forbidden


def _verified(example: Example) -> bool:
    """The environment itself confirms the answer to the task that the example names, as asked."""
    task = example.provenance.task
    if task is None:
        return False
    try:
        world = environment(task.environment)
        asked = world.task(task).messages
        if tuple(example.messages[: len(asked)]) != tuple(asked):
            return False
        return world.verify(task, example.messages[-1].content) >= CORRECT
    except CannotRun:
        return False
