"""Capability non-inferiority as an instrument of the gate, for checkpoints.

Candidate and references answer the same fresh items of every skill that was *not* trained on, and
the trained ones apart. Required: the mean accuracy off target falls by no more than the margin
(non-inferiority, paired items, anytime-valid). Each single skill may veto when it surely falls by
more than its own margin.

A node on which the origin is at its floor cannot show a loss, so it is left out; a skill of which
that is all is measured as blind, so that the verdict names it among those that did not testify. If
that is all skills, the instrument is blind.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from environments.skills import Node, examine, items, node_named
from regent.config import parse
from regent.models.speaker import Speaker
from regent.records import Measurement, Reference, TaskRef, canonical_json, digest
from supervisor.instrument import Candidate, Look
from supervisor.policy import veto_level
from supervisor.served import ready_first
from supervisor.statistics.betting import confidence_sequence


class CapabilitySettings(BaseModel):
    """What the policy may set. Margins are falls in accuracy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: int = Field(480, ge=8, description="most items off target, spread over the skills")
    stages: int = Field(4, ge=1)
    calibration_items: int = Field(
        12, ge=4, description="items a node that show whether it is at its floor"
    )
    calibration_correct: int = Field(
        2, ge=1, description="right answers that lift a node off its floor"
    )
    target_items: int = Field(24, ge=4, description="items on the trained skills")
    margin: float = Field(0.10, gt=0, le=1)
    skill_margin: float = Field(0.20, gt=0, le=1)

    def ends(self, planned: int) -> list[int]:
        """How many of the planned items each look sees, ascending."""
        return [-(-planned * stage // self.stages) for stage in range(1, self.stages + 1)]


class Capability:
    """See the module; keeps `supervisor.instrument.Instrument`."""

    name = "capability"
    sees = "a fall in verified accuracy on the run's own skills, item by item"
    does_not_see = (
        "skills outside the run's environments, and those on which the origin is at its floor"
    )

    def __init__(self, settings: dict[str, Any] | None = None) -> None:
        self.settings = parse(CapabilitySettings, settings or {}, "the policy, capability")

    def expects(
        self, candidate: Candidate, references: dict[Reference, Speaker], look: Look
    ) -> Sequence[Measurement]:
        return [
            Measurement(
                instrument=self.name,
                quantity="off_target",
                reference=reference,
                tolerance=-self.settings.margin,
                harm="below",
                anytime=True,
            )
            for reference in references
        ]

    def measure(
        self, candidate: Candidate, references: dict[Reference, Speaker], look: Look
    ) -> Sequence[Measurement]:
        if candidate.speaker is None:
            raise ValueError("capability needs a checkpoint that can be asked")
        book = _Answers(look.scratch / "answers" if look.scratch else None)
        nodes = [node_named(name) for name in look.skills]
        seeing = self._off_the_floor(nodes, references, book)
        off_target = [node for node in seeing if node.skill_name not in look.targets]
        on_target = [node for node in nodes if node.skill_name in look.targets]
        blind = [node.name for node in nodes if node not in seeing and node not in on_target]
        voters = len(references) * (len({node.skill_name for node in off_target}) + 1)
        level = veto_level(voters)
        pool, trained = self._planned(off_target, look), self._trained(on_target, look)
        for side in ready_first([candidate.speaker, *references.values()]):
            # What each is asked in any case, at once: one switch of weights a speaker.
            book.ask(side, pool[: self.settings.ends(len(pool))[0]] + trained)
        found: list[Measurement] = []
        for reference, speaker in references.items():
            if off_target:
                differences = self._paired(candidate.speaker, speaker, pool, book, look)
                found.append(
                    self._pooled(reference, len(pool), differences, off_target, blind, book, look)
                )
                found.extend(self._by_skill(reference, pool, differences, level))
            else:
                (seed,) = self.expects(candidate, {reference: speaker}, look)
                unseen = {
                    "outcome": "blind",
                    "detail": "no skill off its floor but those trained on",
                    "tokens": book.tokens_since_asked(),
                }
                found.append(seed.model_copy(update=unseen))
            known = {node.skill_name for node in seeing} | set(look.targets)
            for name in sorted({node.skill_name for node in nodes} - known):
                found.append(self._unseen(name, reference))
            if trained:
                own = book.difference(candidate.speaker, speaker, trained)
                fall = self._single(
                    "on_target", reference, own, len(trained), self.settings.margin, level
                )
                found.append(fall.model_copy(update={"tokens": book.tokens_since_asked()}))
        return found

    def _off_the_floor(
        self, nodes: Sequence[Node], references: dict[Reference, Speaker], book: _Answers
    ) -> list[Node]:
        """Nodes where the origin (or else the parent) answers some calibration items rightly."""
        judge = references.get("origin") or references["parent"]
        chosen = [items(node, self.settings.calibration_items, 0, "tuning") for node in nodes]
        book.ask(judge, [ref for refs in chosen for ref in refs])
        return [
            node
            for node, refs in zip(nodes, chosen, strict=True)
            if sum(book.right(judge, refs)) >= self.settings.calibration_correct
        ]

    def _planned(self, nodes: Sequence[Node], look: Look) -> list[TaskRef]:
        """The items off target, in random order."""
        if not nodes:
            return []
        each = -(-self.settings.items // len(nodes))
        pool = [ref for node in nodes for ref in items(node, each, look.seed, "gate")]
        rng = np.random.default_rng(look.seed)
        return [pool[i] for i in rng.permutation(len(pool))][: self.settings.items]

    def _trained(self, nodes: Sequence[Node], look: Look) -> list[TaskRef]:
        """The items on the trained skills: they should rise; a sure fall is a veto."""
        each = -(-self.settings.target_items // max(1, len(nodes)))
        return [ref for node in nodes for ref in items(node, each, look.seed, "gate")]

    def _paired(
        self,
        candidate: Speaker,
        reference: Speaker,
        pool: Sequence[TaskRef],
        book: _Answers,
        look: Look,
    ) -> NDArray[np.float64]:
        """Candidate − reference on the items asked until it is decided."""
        differences = np.zeros(0)
        for end in self.settings.ends(len(pool)):
            differences = book.difference(candidate, reference, pool[:end])
            _, low, high = confidence_sequence(differences, -1.0, 1.0, look.level, len(pool))
            if low >= -self.settings.margin or high < -self.settings.margin:
                break
        return differences

    def _pooled(
        self,
        reference: Reference,
        planned: int,
        differences: NDArray[np.float64],
        nodes: Sequence[Node],
        blind: Sequence[str],
        book: _Answers,
        look: Look,
    ) -> Measurement:
        estimate, low, high = confidence_sequence(differences, -1.0, 1.0, look.level, planned)
        return Measurement(
            instrument=self.name,
            quantity="off_target",
            reference=reference,
            outcome="measured",
            estimate=estimate,
            low=low,
            high=high,
            level=look.level,
            tolerance=-self.settings.margin,
            harm="below",
            anytime=True,
            n=len(differences),
            tokens=book.tokens_since_asked(),
            detail=f"mean over {', '.join(sorted({n.skill_name for n in nodes}))}"
            + (f"; at their floor, so unseen: {', '.join(blind)}" if blind else ""),
        )

    def _by_skill(
        self,
        reference: Reference,
        pool: Sequence[TaskRef],
        differences: NDArray[np.float64],
        level: float,
    ) -> list[Measurement]:
        names = [f"{ref.environment}/{ref.skill}" for ref in pool]
        asked, margin = names[: len(differences)], self.settings.skill_margin
        found = []
        for name in sorted(set(asked)):
            own = differences[[n == name for n in asked]]
            planned = names.count(name)
            found.append(self._single(f"skill/{name}", reference, own, planned, margin, level))
        return found

    def _single(
        self,
        quantity: str,
        reference: Reference,
        own: NDArray[np.float64],
        planned: int,
        margin: float,
        level: float,
    ) -> Measurement:
        estimate, low, high = confidence_sequence(own, -1.0, 1.0, level, planned)
        return Measurement(
            instrument=self.name,
            quantity=quantity,
            reference=reference,
            outcome="measured",
            estimate=estimate,
            low=low,
            high=high,
            level=level,
            tolerance=-margin,
            harm="below",
            anytime=True,
            required=False,
            n=len(own),
        )

    def _unseen(self, skill: str, reference: Reference) -> Measurement:
        return Measurement(
            instrument=self.name,
            quantity=f"skill/{skill}",
            reference=reference,
            outcome="blind",
            level=1.0,  # known before the data: it cannot veto falsely
            tolerance=-self.settings.skill_margin,
            harm="below",
            anytime=True,
            required=False,
            detail="the origin is at its floor there, so a loss would not show",
        )


class _Answers:
    """Scores of speakers on items, kept in the supervisor's folder: nothing is asked twice."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.tokens = 0
        self._kept: dict[str, dict[str, float]] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def ask(self, speaker: Speaker, refs: Sequence[TaskRef]) -> None:
        """Scores every item not yet scored. Raises RuntimeError where any reply failed."""
        kept = self._load(speaker.name)
        missing = list({_key(ref): ref for ref in refs if _key(ref) not in kept}.values())
        if not missing:
            return
        results = examine(speaker, missing)
        failed = [result for result in results if result.score is None]
        if failed:
            raise RuntimeError(f"{len(failed)} of {len(results)} answers of {speaker.name} failed")
        for result in results:
            kept[_key(result.ref)] = float(result.correct)
            self.tokens += result.tokens
        if self.folder is not None:
            path = self._path(speaker.name)
            partial = path.with_suffix(".part")
            partial.write_text(json.dumps(kept), "utf-8")
            partial.replace(path)

    def tokens_since_asked(self) -> int:
        spent, self.tokens = self.tokens, 0
        return spent

    def right(self, speaker: Speaker, refs: Sequence[TaskRef]) -> list[float]:
        kept = self._load(speaker.name)
        return [kept[_key(ref)] for ref in refs]

    def difference(
        self, candidate: Speaker, reference: Speaker, refs: Sequence[TaskRef]
    ) -> NDArray[np.float64]:
        """Candidate − reference, 1/0 right or wrong, on each item: [n] in {−1, 0, 1}."""
        for side in ready_first([candidate, reference]):
            self.ask(side, refs)
        return np.subtract(
            self.right(candidate, refs), self.right(reference, refs), dtype=np.float64
        )

    def _path(self, name: str) -> Path:
        if self.folder is None:
            raise ValueError("nothing is kept without a folder")
        return self.folder / f"{digest(name.encode())}.json"

    def _load(self, name: str) -> dict[str, float]:
        if name not in self._kept:
            path = self._path(name) if self.folder else None
            self._kept[name] = json.loads(path.read_text("utf-8")) if path and path.exists() else {}
        return self._kept[name]


def _key(ref: TaskRef) -> str:
    return canonical_json(ref.model_dump()).decode()
