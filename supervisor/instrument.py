"""The protocol that every instrument keeps.

The gate knows no instrument by import: the policy names them, the entry-point group
`regent.instruments` finds them, and each answers `measure`. An instrument that raises is recorded
as `failed` and the subject is quarantined; one that could not have seen the effect says `blind`.

Anyone adds an instrument from a package of their own: a callable taking the instrument's settings
(a dict from the policy) and returning an object with `name`, `sees`, `does_not_see`, `expects` and
`measure`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from regent.models.speaker import Speaker
from regent.records import Batch, Checkpoint, Example, Measurement, Reference


@dataclass(frozen=True)
class Candidate:
    """What is judged: a batch (with its examples) or a checkpoint (with a way to speak with it)."""

    kind: Literal["batch", "checkpoint"]
    batch: Batch | None = None
    examples: tuple[Example, ...] = ()
    checkpoint: Checkpoint | None = None
    speaker: Speaker | None = None

    @property
    def id(self) -> str:
        record = self.batch if self.kind == "batch" else self.checkpoint
        if record is None:
            raise ValueError(f"a {self.kind} candidate without its {self.kind}")
        return record.id


@dataclass(frozen=True)
class Look:
    """One look at one candidate: what the instruments may spend and draw from.

    `level` is the confidence that required measurements must reach (1 − this look's share of the
    error budget); `seed` makes the gate's items fresh for each look; `targets` are the
    `environment/skill` names that were trained on; `forbidden` are normalised prompts of held-out
    and gate items; `scratch` is a folder of the supervisor's own for cached parent samples.
    """

    number: int
    level: float
    seed: int
    targets: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    scratch: Path | None = None
    forbidden: frozenset[str] = field(default_factory=frozenset)
    known: frozenset[str] = field(default_factory=frozenset)


def page_of(evidence: bytes) -> str:
    """The digest of the page that a measurement's evidence names (JSON, `page`), or empty."""
    try:
        told = json.loads(evidence)
    except ValueError:
        return ""
    page = told.get("page") if isinstance(told, dict) else ""
    return page if isinstance(page, str) and re.fullmatch(r"[0-9a-f]{64}", page) else ""


def kept_page(evidence: Path) -> Path | None:
    """The page that lies beside an evidence file and that it names, if both are there."""
    if not evidence.is_file():
        return None
    page = evidence.with_name(f"{page_of(evidence.read_bytes())}.html")
    return page if page.is_file() else None


class Instrument(Protocol):
    """Measures one kind of thing about a candidate against its references."""

    name: str
    sees: str
    does_not_see: str

    def expects(
        self, candidate: Candidate, references: dict[Reference, Speaker], look: Look
    ) -> Sequence[Measurement]:
        """The measurements that `measure` will bring, seeded as `not_run` before it starts."""
        ...

    def measure(
        self, candidate: Candidate, references: dict[Reference, Speaker], look: Look
    ) -> Sequence[Measurement]:
        """What it saw. May raise: the gate then records `failed` and quarantines."""
        ...
