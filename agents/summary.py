"""What one round did, gathered as it goes and kept on disk, so that a resumed round loses nothing.

Its `fields` become the ledger's `round` row, from which the closing screen and `regent status`
are made. Seconds add up over the processes that worked on the round.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regent.records import Example, ExperimentPlan, Gap, Trajectory, Verdict

#: Stations by what the round's wall-clock went into; training holds the held-out items too.
FINDING = ("profile",)
EXPERIMENTING = ("plan", "experiment", "assemble")
SUPERVISING = ("judge_batch", "judge_checkpoint")


class RoundSummary:
    """Mutable, one a round; every note is written through to `folder`/round-N.json."""

    def __init__(self, path: Path, number: int, kept: dict[str, Any]) -> None:
        self.path, self.round = path, number
        self.kept = kept
        self.notes: list[str] = kept.setdefault("notes", [])

    @classmethod
    def load(cls, folder: Path, number: int) -> RoundSummary:
        """The round's summary so far, or an empty one."""
        path = folder / f"round-{number}.json"
        folder.mkdir(parents=True, exist_ok=True)
        kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
        return cls(path, number, kept)

    def note_gaps(self, gaps: Sequence[Gap], tokens: int) -> None:
        fields = {"environment", "skill", "level", "accuracy", "low", "high", "target"}
        self._set("gaps", [gap.model_dump(include=fields) for gap in gaps])
        self.add_tokens(tokens)

    def note_trajectories(
        self, plans: Sequence[ExperimentPlan], trajectories: Sequence[Trajectory]
    ) -> None:
        self.kept["experiments"] = len(plans)
        self.kept["trajectories"] = len(trajectories)
        self.kept["outcomes"] = dict(Counter(trajectory.outcome for trajectory in trajectories))
        self._tokens()["experiment"] = sum(trajectory.tokens for trajectory in trajectories)
        self._write()

    def note_examples(self, examples: Sequence[Example]) -> None:
        self.kept["examples"] = len(examples)
        self.kept["examples_by_source"] = dict(Counter(e.provenance.source for e in examples))
        self._write()

    def note_verdict(self, kind: str, verdict: Verdict, costs: Mapping[str, float]) -> None:
        said = {
            "decision": verdict.decision,
            "reasons": list(verdict.reasons),
            "id": verdict.id,
            "silent": list(verdict.silent),
            "dropped": sum(one.disposition == "drop" for one in verdict.dispositions),
        }
        self.kept[f"{kind}_verdict"] = said
        instruments = self.kept.setdefault("instruments", {})
        for name, seconds in costs.items():
            instruments[name] = instruments.get(name, 0.0) + seconds
        # By kind, so that a station that runs twice after a crash counts its verdict once.
        supervised = self.kept.setdefault("supervise_tokens", {})
        supervised[kind] = sum(m.tokens for m in verdict.measurements)
        self._tokens()["supervise"] = sum(supervised.values())
        self._write()

    def note_held_out(self, skill: str, gain: dict[str, Any]) -> None:
        self.kept.setdefault("held_out", {})[skill] = gain
        self._write()

    def add_notes(self, notes: Sequence[str]) -> None:
        # A station that runs twice after a crash says its notes once.
        self.notes.extend(note for note in notes if note not in self.notes)
        self._write()

    def add_tokens(self, tokens: int) -> None:
        """Tokens of profiling, rehearsal and held-out items."""
        spent = self._tokens()
        spent["measure"] = spent.get("measure", 0) + tokens
        self._write()

    def add_seconds(self, station: str, seconds: float) -> None:
        stations = self.kept.setdefault("stations", {})
        stations[station] = stations.get(station, 0.0) + seconds
        self._write()

    def close(self, state: Mapping[str, Any], champion: str, promoted: bool) -> None:
        self.kept |= {
            "champion_before": state["champion"],
            "champion": champion,
            "batch": state.get("batch", ""),
            "checkpoint": state.get("candidate", ""),
            "promoted": promoted,
        }
        self._write()

    def fields(self) -> dict[str, Any]:
        """The ledger's `round` row."""
        stations: dict[str, float] = self.kept.get("stations", {})
        tokens = dict(self._tokens())
        empty: dict[str, Any] = {
            "gaps": [],
            "experiments": 0,
            "trajectories": 0,
            "outcomes": {},
            "examples": 0,
            "examples_by_source": {},
            "batch_verdict": None,
            "checkpoint_verdict": None,
            "held_out": {},
            "instruments": {},
        }
        return {
            **empty,
            **self.kept,
            "round": self.round,
            "seconds": {
                "profile": sum(stations.get(name, 0.0) for name in FINDING),
                "experiment": sum(stations.get(name, 0.0) for name in EXPERIMENTING),
                "train": stations.get("train", 0.0),
                "supervise": sum(stations.get(name, 0.0) for name in SUPERVISING),
                "total": sum(stations.values()),
            },
            "stations": stations,
            "tokens": {**tokens, "total": sum(tokens.values())},
        }

    def metrics(self) -> dict[str, float]:
        """Figures for the MLflow view: held-out accuracy, seconds by station, tokens."""
        fields = self.fields()
        figures = {f"seconds/{name}": seconds for name, seconds in fields["stations"].items()}
        figures |= {f"tokens/{name}": float(n) for name, n in fields["tokens"].items()}
        for skill, gain in fields["held_out"].items():
            figures[f"held_out/{skill}/before"] = gain["before"]
            figures[f"held_out/{skill}/after"] = gain["after"]
        return figures

    def _tokens(self) -> dict[str, int]:
        tokens: dict[str, int] = self.kept.setdefault("tokens", {})
        return tokens

    def _set(self, name: str, value: Any) -> None:
        self.kept[name] = value
        self._write()

    def _write(self) -> None:
        partial = self.path.with_suffix(".part")
        partial.write_text(json.dumps(self.kept, ensure_ascii=False), "utf-8")
        partial.replace(self.path)
