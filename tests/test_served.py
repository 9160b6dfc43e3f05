"""One engine serves one set of weights at a time, so whoever spoke last speaks first.

The engine is a count of switches; the instruments are the gate's own, on scripted speakers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regent.models.speaker import Conversation, Reply, Sampling, Speaker
from regent.records import Checkpoint, Reference
from supervisor.capability import Capability
from supervisor.diffing.instrument import BehaviouralDiff
from supervisor.instrument import Candidate, Instrument, Look
from supervisor.served import ServedCheckpoint, ready_first
from tests.scripted_speakers import Chatter, embed
from tests.test_capability import SKILLS, Pupil


class Weights:
    """Which speaker's weights lie in the engine, and how often they were changed."""

    def __init__(self) -> None:
        self.of, self.switches = "", 0


class OnTheEngine:
    """A scripted speaker whose weights must be served before it answers."""

    can = frozenset({"sample"})

    def __init__(self, weights: Weights, speaker: Any) -> None:
        self.weights, self.speaker, self.name = weights, speaker, speaker.name

    @property
    def ready(self) -> bool:
        return self.weights.of == self.name

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        self.weights.switches += not self.ready
        self.weights.of = self.name
        replies: list[Reply] = self.speaker.sample(conversations, how)
        return replies


def measure(instrument: Instrument, speakers: Sequence[Speaker], scratch: Path) -> None:
    child, parent, origin = speakers
    candidate = Candidate("checkpoint", Checkpoint(round=1, name="r1", digest="d"), speaker=child)
    look = Look(1, 0.97, 7, targets=("reasoning/gcd",), skills=SKILLS, scratch=scratch)
    references: dict[Reference, Speaker] = {"parent": parent, "origin": origin}
    assert all(m.outcome == "measured" for m in instrument.measure(candidate, references, look))


def test_a_judgement_decided_at_once_switches_weights_once_a_speaker(tmp_path: Path) -> None:
    weights = Weights()
    names = ("child", "parent", "origin")
    chatters = [OnTheEngine(weights, Chatter(name, seed)) for seed, name in enumerate(names)]
    settings = {"discovery_prompts": 8, "gate_prompts": 8, "stages": 1}
    measure(BehaviouralDiff(settings, embed), chatters, tmp_path)
    assert weights.switches == 3
    # The origin spoke last; of the capability's items it knows first which skills it has at all.
    pupils = [OnTheEngine(weights, Pupil(name)) for name in names]
    measure(Capability({"items": 80, "stages": 1, "target_items": 16}), pupils, tmp_path)
    assert weights.switches == 3 + 2


def test_whoever_is_ready_speaks_first_and_the_others_keep_their_order(tmp_path: Path) -> None:
    def served(name: str, now: Path | None) -> ServedCheckpoint:
        def never() -> Any:
            raise AssertionError("asking who is ready starts no engine")

        return ServedCheckpoint(name, tmp_path / name, never, lambda: now)

    now = (tmp_path / "c").resolve()
    assert [s.name for s in ready_first([served(n, now) for n in "abcb"])] == ["c", "a", "b"]
    assert [s.name for s in ready_first([served(n, None) for n in "abc"])] == ["a", "b", "c"]


def test_a_speaker_without_an_engine_is_never_ready_and_keeps_its_place() -> None:
    assert [s.name for s in ready_first([Chatter("b", 0), Chatter("a", 1)])] == ["b", "a"]
