"""The records that Regent passes from room to room.

Every record is frozen, is named by the SHA-256 of its canonical JSON, and names its parents'
ids, so that an approved example leads back to the experiment, seed, agent, model and code that
made it, and forward to every checkpoint trained on it.

    CapabilityProfile → Gap → ExperimentPlan → Trajectory → Example → Batch
       → Measurement… → Verdict → TrainingRun → Checkpoint → Measurement… → Verdict → Promotion

Does not cover: where records are kept (`regent.store`, `supervisor.record`), nor time: a record
holds no clock reading unless the reading is the point of it, so equal work has equal ids.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Outcome = Literal["measured", "failed", "not_run", "blind"]
Decision = Literal["approve", "quarantine", "veto"]
Reference = Literal["parent", "origin", "none"]
Role = Literal["system", "user", "assistant"]


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces; refuses NaN and infinities (RFC 8785 in spirit).

    Raises ValueError on a float that is not finite, so no record can hide one.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8")


def digest(data: bytes) -> str:
    """SHA-256 of `data` in lower-case hex, the name of bytes everywhere in Regent."""
    return hashlib.sha256(data).hexdigest()


class Record(BaseModel):
    """A frozen record; `id` is the SHA-256 of its class name and canonical JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")

    parents: tuple[str, ...] = ()

    @cached_property
    def id(self) -> str:
        return digest(self.canonical())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other fields and the id that follows from them."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("id", None)  # the cached name is the old fields'
        return copied

    def canonical(self) -> bytes:
        """The bytes that `id` hashes and that the store keeps."""
        return canonical_json({"kind": type(self).__name__, **self.model_dump(mode="json")})

    @classmethod
    def from_canonical(cls, data: bytes) -> Self:
        """Read what `canonical` wrote. Raises ValueError if the bytes are of another kind."""
        fields = json.loads(data)
        kind = fields.pop("kind", None)
        if kind != cls.__name__:
            raise ValueError(f"these bytes hold a {kind}, not a {cls.__name__}")
        return cls.model_validate(fields)


class Message(BaseModel):
    """One turn of a chat, as TRL and OpenAI-compatible servers take it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    content: str


class TaskRef(BaseModel):
    """Names one task of one environment exactly: the same reference always gives the same task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    environment: str
    skill: str
    level: int = Field(ge=0)
    seed: int = Field(ge=0)


class SkillEstimate(BaseModel):
    """Accuracy on one node of the skill tree, with an exact (Clopper–Pearson) interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    environment: str
    skill: str
    level: int
    n: int
    correct: int
    estimate: float
    low: float
    high: float


class CapabilityProfile(Record):
    """What a checkpoint can do, by environment, skill and level, on items of one split."""

    checkpoint: str
    split: str
    seed: int
    skills: tuple[SkillEstimate, ...]


class Gap(Record):
    """A node confidently below target yet learnable, confirmed on a second fresh split."""

    environment: str
    skill: str
    level: int
    accuracy: float
    low: float
    high: float
    target: float
    n: int


class ExperimentPlan(Record):
    """One experiment proposed for a gap: what to try, how often and why.

    `tasks` are the exact tasks that the worker meets; `goal` is the planner's text (data, not an
    instruction to the supervisor).
    """

    round: int
    gap: str
    environment: str
    skill: str
    level: int
    goal: str = Field(max_length=400)
    strategy: Literal["attempt", "teach", "explore", "replay"]
    tasks: tuple[TaskRef, ...]
    seed: int


class Step(BaseModel):
    """One exchange between the worker's model and the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["start", "analyse", "execute", "create", "observe", "answer"]
    prompt: tuple[Message, ...]
    response: str
    observation: str = ""
    tokens: int = 0


class Trajectory(Record):
    """What happened on one task: every step, the environment's score, and why it ended."""

    plan: str
    task: TaskRef
    agent: str
    model: str
    code: str
    steps: tuple[Step, ...]
    score: float | None
    outcome: Literal["verified", "refuted", "unanswered", "capped", "failed"]
    detail: str = ""
    tokens: int = 0

    @model_validator(mode="after")
    def _score_is_finite(self) -> Self:
        if self.score is not None and not (math.isfinite(self.score) and 0 <= self.score <= 1):
            raise ValueError(f"a score lies in [0, 1], not {self.score}")
        return self


class Provenance(BaseModel):
    """Where an example came from. All optional: a team with its own loop may have none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trajectory: str = ""
    plan: str = ""
    task: TaskRef | None = None
    agent: str = ""
    model: str = ""
    code: str = ""
    source: Literal["own_attempt", "world_answer", "replay", "external"] = "external"


class Example(Record):
    """A chat-format training example (`messages`, as TRL takes it) and its provenance.

    `rejected` is the answer that lost, for preference training (DPO); empty for SFT.
    """

    messages: tuple[Message, ...] = Field(min_length=1)
    rejected: str = ""
    provenance: Provenance = Provenance()


class Batch(Record):
    """Examples that are judged, released and trained on together.

    `bytes_digest` names the exact JSONL that training would read; `merkle_root` commits to the
    example ids in order. `targets` are the `environment/skill` names that the batch means to
    change.
    """

    round: int
    examples: tuple[str, ...]
    bytes_digest: str
    merkle_root: str
    targets: tuple[str, ...] = ()
    canary: bool = False


class Measurement(Record):
    """What one instrument saw of one quantity.

    `harm` says on which side of `tolerance` harm lies. The interval is one-sided-valid at
    `level`: P(harmful truth lies outside) ≤ 1 − level, at any stopping time where `anytime`.
    `exact` marks a count that has no sampling error (a duplicate is there or it is not).
    """

    instrument: str
    quantity: str
    reference: Reference = "none"
    outcome: Outcome = "not_run"
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    tolerance: float | None = None
    harm: Literal["above", "below"] = "above"
    exact: bool = False
    anytime: bool = False
    required: bool = True
    n: int = 0
    tokens: int = 0
    detail: str = ""
    evidence: str = ""

    @model_validator(mode="after")
    def _measured_has_figures(self) -> Self:
        if self.outcome == "measured":
            missing = [
                name
                for name in ("estimate", "low", "high", "tolerance")
                if getattr(self, name) is None
            ]
            if missing:
                raise ValueError(f"a measured quantity needs {', '.join(missing)}")
        return self

    @property
    def name(self) -> str:
        """`instrument/quantity@reference`, how reasons and policies speak of it."""
        suffix = "" if self.reference == "none" else f"@{self.reference}"
        return f"{self.instrument}/{self.quantity}{suffix}"

    @property
    def excludes_tolerance(self) -> bool:
        """The whole interval lies on the harmless side."""
        if self.outcome != "measured" or self.tolerance is None:
            return False
        if self.harm == "above":
            return self.high is not None and self.high <= self.tolerance
        return self.low is not None and self.low >= self.tolerance

    @property
    def confident_harm(self) -> bool:
        """The whole interval lies on the harmful side."""
        if self.outcome != "measured" or self.tolerance is None:
            return False
        if self.harm == "above":
            return self.low is not None and self.low > self.tolerance
        return self.high is not None and self.high < self.tolerance


class Disposition(BaseModel):
    """What becomes of one example within a batch's verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    example: str
    disposition: Literal["keep", "drop"]
    reason: str = ""


class Verdict(Record):
    """The supervisor's decision on one batch or one checkpoint, and all that it rests on."""

    subject: str
    subject_kind: Literal["batch", "checkpoint"]
    decision: Decision
    reasons: tuple[str, ...]
    measurements: tuple[Measurement, ...]
    dispositions: tuple[Disposition, ...] = ()
    policy: str
    look: int = 0
    alpha_spent: float = 0.0
    silent: tuple[str, ...] = ()


class TrainingRun(Record):
    """One fine-tuning run: from which checkpoint, on which approved bytes, with what settings."""

    round: int
    checkpoint: str
    batch: str
    bytes_digest: str
    settings: dict[str, Any]
    seed: int


class Checkpoint(Record):
    """Weights, named by the digest of their files; `parents` holds the parent's id (origin: none).

    `digest` is the Merkle root over (file name, SHA-256) pairs, so any flipped byte shows.
    """

    round: int
    name: str
    digest: str
    training_run: str = ""


class Promotion(Record):
    """A checkpoint became the champion, on the word of a verdict."""

    round: int
    checkpoint: str
    verdict: str


def merkle_root(leaves: list[str]) -> str:
    """Root of a binary Merkle tree over hex digests.

    Leaf and node hashes are domain-separated (RFC 6962). An odd node is promoted unchanged; the
    root of nothing is the digest of the empty string.
    """
    if not leaves:
        return digest(b"")
    level = [digest(b"\x00" + leaf.encode()) for leaf in leaves]
    while len(level) > 1:
        paired = [
            digest(b"\x01" + (level[i] + level[i + 1]).encode())
            for i in range(0, len(level) - 1, 2)
        ]
        if len(level) % 2:
            paired.append(level[-1])
        level = paired
    return level[0]
