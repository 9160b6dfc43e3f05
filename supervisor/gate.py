"""The gate: gather measurements, decide, keep, record.

It fails closed: whatever an instrument raises becomes a `failed` measurement and a quarantine.
Every measurement that an instrument should bring is seeded as `not_run` before any starts.

A question (subject, policy, references, targets, skills, held-out prompts) is judged once: asked
again, the gate gives the verdict that it kept, so nobody draws until chance approves. Where
something failed it is judged anew, as a new look that spends anew. A judgement that was cut off
keeps its look.

Does not cover: instruments that hang (each bounds its own requests), and what follows from a
verdict (`supervisor.record` releases bytes; the caller promotes).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from regent.config import InstrumentChoice, Policy
from regent.errors import CannotRun
from regent.models.speaker import Speaker
from regent.records import (
    Batch,
    Checkpoint,
    Disposition,
    Example,
    Measurement,
    Reference,
    Verdict,
    canonical_json,
    digest,
)
from supervisor.budget import Budget
from supervisor.finding import find
from supervisor.instrument import Candidate, Instrument, Look
from supervisor.policy import changed, decide, relax_blind, sound

References = Mapping[Reference, Speaker]
Recorder = Callable[[Verdict], object]


@runtime_checkable
class Disposes(Protocol):
    """An instrument that also says what becomes of single examples; asked after `measure`."""

    def dispositions(self, candidate: Candidate, look: Look) -> Sequence[Disposition]: ...


@dataclass(frozen=True)
class _Asked:
    """One instrument that the policy asks for, and what it is expected to bring."""

    instrument: Instrument
    choice: InstrumentChoice
    seeds: tuple[Measurement, ...]


class Gate:
    """Judges batches and checkpoints by a policy; keeps its budget and its verdicts in `folder`.

    `recorder` is called with every verdict before it is returned (again when a kept one is given,
    so it must be idempotent). `costs` (seconds) and `tokens` are by instrument, over all that
    this gate judged. Raises CannotRun if the policy names an instrument that cannot be found.
    """

    def __init__(
        self,
        policy: Policy,
        folder: Path,
        recorder: Recorder | None = None,
        seed: int = 0,
        instruments: Mapping[str, Instrument] | None = None,
    ) -> None:
        self.policy, self.folder, self.seed = policy, folder, seed
        self.costs: dict[str, float] = {}
        self.tokens: dict[str, int] = {}
        self.budget = Budget(folder / "budget.json", policy.alpha)
        self._recorder = recorder
        own = dict(instruments or {})
        self._chosen = {
            "batch": [(c, own.get(c.name) or find(c)) for c in policy.batch],
            "checkpoint": [(c, own.get(c.name) or find(c)) for c in policy.checkpoint],
        }

    def judge_batch(
        self,
        batch: Batch,
        examples: Sequence[Example],
        references: References,
        targets: Sequence[str] = (),
        skills: Sequence[str] = (),
        forbidden: frozenset[str] = frozenset(),
        known: frozenset[str] = frozenset(),
    ) -> Verdict:
        """The verdict on `batch`, whose examples are `examples` in order.

        `forbidden`: normalised prompts of held-out and gate items; `known`: example ids already
        trained on. Raises CannotRun if `examples` are not the batch's.
        """
        if tuple(example.id for example in examples) != batch.examples:
            raise CannotRun(
                f"batch {batch.id[:12]}: the examples given are not those that it names; "
                "build the batch again from them"
            )
        candidate = Candidate("batch", batch=batch, examples=tuple(examples))
        blank = self._look(0, 1 - self.policy.alpha, candidate.id, targets or batch.targets, skills)
        return self.judge(candidate, references, replace(blank, forbidden=forbidden, known=known))

    def judge_checkpoint(
        self,
        checkpoint: Checkpoint,
        speaker: Speaker,
        references: References,
        targets: Sequence[str] = (),
        skills: Sequence[str] = (),
    ) -> Verdict:
        """The verdict on `checkpoint`, which `speaker` speaks for."""
        candidate = Candidate("checkpoint", checkpoint=checkpoint, speaker=speaker)
        blank = self._look(0, 1 - self.policy.alpha, candidate.id, targets, skills)
        return self.judge(candidate, references, blank)

    def judge(self, candidate: Candidate, references: References, blank: Look) -> Verdict:
        """The verdict on any candidate; `blank` is its look before a number is reserved.

        One engine may serve several references in turn: instruments ask in the order that suits
        them, and each speaker sees to it that its own weights answer.
        """
        question = self._question(candidate, references, blank)
        kept = self._kept(question)
        if kept is not None and not _to_be_judged_anew(kept):
            return self._recorded(kept)
        voices: dict[Reference, Speaker] = dict(references)
        asked = [
            _Asked(instrument, choice, self._expected(instrument, choice, candidate, voices, blank))
            for choice, instrument in self._chosen[candidate.kind]
        ]
        look, level, spent = blank, 1.0, 0.0
        if any(seed.required and not seed.exact for one in asked for seed in one.seeds):
            attempt = question if kept is None else f"{question}#{kept.id[:16]}"
            reserved = self.budget.reserve(attempt)
            level, spent = reserved.level, reserved.alpha
            look = self._look(reserved.number, level, attempt, blank.targets, blank.skills)
            look = replace(look, forbidden=blank.forbidden, known=blank.known)
        measurements: list[Measurement] = []
        dispositions: list[Disposition] = []
        for one in asked:
            found, said = self._measured(one, candidate, voices, look)
            measurements += found
            dispositions += said
        verdict = decide(
            candidate.id,
            candidate.kind,
            relax_blind(measurements, self.policy.blind_on_origin),
            self.policy.id,
            look.number,
            level,
            spent,
            dispositions,
        )
        self._keep(question, verdict)
        return self._recorded(verdict)

    def _look(
        self, number: int, level: float, attempt: str, targets: Sequence[str], skills: Sequence[str]
    ) -> Look:
        """Its seed comes from the gate's own seed and the attempt: fresh items for each look."""
        seed = hashlib.sha256(f"{self.seed}:{number}:{attempt}".encode()).digest()
        scratch = self.folder / "scratch"
        try:
            scratch.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotRun(
                f"{scratch}: {error.strerror or error}; give the supervisor a folder it can write"
            ) from error
        return Look(
            number=number,
            level=level,
            seed=int.from_bytes(seed[:4], "big") >> 1,
            targets=tuple(targets),
            skills=tuple(skills),
            scratch=scratch,
        )

    def _expected(
        self,
        instrument: Instrument,
        choice: InstrumentChoice,
        candidate: Candidate,
        references: dict[Reference, Speaker],
        blank: Look,
    ) -> tuple[Measurement, ...]:
        """What the instrument should bring, all `not_run`; a stand-in if it names nothing."""
        try:
            seeds = [
                changed(_own(seed, instrument), outcome="not_run")
                for seed in instrument.expects(candidate, references, blank)
            ]
        except Exception as error:
            seeds = [_stand_in(choice.name, "failed", _told(error))]
        seeds = seeds or [_stand_in(choice.name, "not_run", "it expects no measurement of this")]
        return tuple(_as_chosen(seed, choice) for seed in seeds)

    def _measured(
        self,
        asked: _Asked,
        candidate: Candidate,
        references: dict[Reference, Speaker],
        look: Look,
    ) -> tuple[list[Measurement], list[Disposition]]:
        """What one instrument brought, laid over what it should have brought."""
        name, said = asked.choice.name, list[Disposition]()
        if any(seed.outcome == "failed" for seed in asked.seeds):
            return list(asked.seeds), said
        began = time.perf_counter()
        try:
            brought = [
                _as_chosen(sound(_own(m, asked.instrument)), asked.choice)
                for m in asked.instrument.measure(candidate, references, look)
            ]
            if isinstance(asked.instrument, Disposes):
                said = list(asked.instrument.dispositions(candidate, look))
        except Exception as error:
            brought = [changed(s, outcome="failed", detail=_told(error)) for s in asked.seeds]
            said = []
        self.costs[name] = self.costs.get(name, 0.0) + time.perf_counter() - began
        self.tokens[name] = self.tokens.get(name, 0) + sum(m.tokens for m in brought)
        required = {seed.name for seed in asked.seeds if seed.required}
        brought = [changed(m, required=m.required or m.name in required) for m in brought]
        names = {m.name for m in brought}
        if brought and all("/" + _ANY in seed.name for seed in asked.seeds):
            return brought, said
        return brought + [seed for seed in asked.seeds if seed.name not in names], said

    def _question(self, candidate: Candidate, references: References, blank: Look) -> str:
        """Names what is asked. What is `known` is left out: it grows by the batch itself."""
        return digest(
            canonical_json(
                {
                    "subject": candidate.id,
                    "policy": self.policy.id,
                    "references": {role: speaker.name for role, speaker in references.items()},
                    "targets": sorted(blank.targets),
                    "skills": sorted(blank.skills),
                    "forbidden": sorted(blank.forbidden),
                }
            )
        )

    def _kept(self, question: str) -> Verdict | None:
        path = self.folder / "verdicts" / f"{question}.json"
        try:
            return Verdict.from_canonical(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise CannotRun(
                f"{path}: this kept verdict cannot be read; restore it from a copy"
            ) from error

    def _keep(self, question: str, verdict: Verdict) -> None:
        path = self.folder / "verdicts" / f"{question}.json"
        draft = path.with_suffix(f".{os.getpid()}.draft")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(verdict.canonical())
            draft.replace(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise CannotRun(
                f"{path}: {error.strerror or error}; a verdict must be kept before it is given"
            ) from error

    def _recorded(self, verdict: Verdict) -> Verdict:
        if self._recorder is not None:
            self._recorder(verdict)
        return verdict


_ANY = "any"


def _stand_in(name: str, outcome: str, detail: str) -> Measurement:
    return changed(Measurement(instrument=name, quantity=_ANY), outcome=outcome, detail=detail)


def _own(measurement: object, instrument: Instrument) -> Measurement:
    """The measurement, if it is one and is signed with the instrument's own name."""
    if not isinstance(measurement, Measurement):
        raise TypeError(f"brought a {type(measurement).__name__}, not a Measurement")
    if measurement.instrument != instrument.name:
        raise ValueError(f"brought a measurement in the name of '{measurement.instrument}'")
    return measurement


def _as_chosen(measurement: Measurement, choice: InstrumentChoice) -> Measurement:
    return changed(measurement, required=False) if choice.veto_only else measurement


def _to_be_judged_anew(verdict: Verdict) -> bool:
    """An engine that died is no finding about the subject."""
    failed = any(m.outcome == "failed" for m in verdict.measurements)
    return failed and verdict.decision == "quarantine"


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
