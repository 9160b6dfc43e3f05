"""The gate fails closed: a spoiled instrument is quarantined, never approved, and says which.

Scripted instruments and speakers stand for the real ones (which have tests of their own).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.cli import app
from regent.config import InstrumentChoice, Policy
from regent.errors import CannotRun
from regent.models.speaker import Conversation, Reply, Sampling, Speaker
from regent.records import (
    Batch,
    Checkpoint,
    Disposition,
    Example,
    Measurement,
    Message,
    Reference,
    Verdict,
)
from supervisor import Gate
from supervisor.finding import find, known
from supervisor.instrument import Candidate, Look

CHECKPOINT = Checkpoint(round=1, name="r1", digest="d")


class Mute:
    """A speaker that nobody asks."""

    can = frozenset({"sample"})

    def __init__(self, name: str) -> None:
        self.name = name

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        raise AssertionError("nobody should have asked")


REFERENCES: dict[Reference, Speaker] = {"parent": Mute("parent"), "origin": Mute("origin")}


class Scripted:
    """Finds every drift well within its tolerance, at the look's level."""

    name = "diff"
    sees = does_not_see = "nothing"

    def __init__(self, exact: bool = False) -> None:
        self.looks: list[Look] = []
        self.exact = exact

    def expects(
        self, candidate: Candidate, references: dict[Reference, Speaker], look: Look
    ) -> Sequence[Measurement]:
        return [
            Measurement(
                instrument=self.name, quantity="drift", reference=r, tolerance=0.3, exact=self.exact
            )
            for r in references
        ]

    def measure(
        self, candidate: Candidate, references: dict[Reference, Speaker], look: Look
    ) -> Sequence[Measurement]:
        self.looks.append(look)
        return [self.one(r, look) for r in references]

    def one(self, reference: Reference, look: Look) -> Measurement:
        return Measurement(
            instrument=self.name,
            quantity="drift",
            reference=reference,
            outcome="measured",
            estimate=0.1,
            low=0.1 if self.exact else 0.05,
            high=0.1 if self.exact else 0.2,
            level=None if self.exact else look.level,
            tolerance=0.3,
            exact=self.exact,
            n=80,
            tokens=1000,
        )


Measures = Callable[[Scripted, dict[Reference, Speaker], Look], Sequence[Measurement]]


def gate(
    folder: Path, instrument: Scripted, veto_only: bool = False, **fields: object
) -> tuple[Gate, list[Verdict]]:
    choice = InstrumentChoice(name="scripted", veto_only=veto_only)
    policy = Policy.model_validate({"batch": (choice,), "checkpoint": (choice,)} | fields)
    told: list[Verdict] = []
    return Gate(policy, folder, told.append, 7, {"scripted": instrument}), told


def judged(folder: Path, instrument: Scripted) -> Verdict:
    return gate(folder, instrument)[0].judge_checkpoint(CHECKPOINT, Mute("child"), REFERENCES)


def test_a_sound_instrument_is_approved_recorded_and_costed(tmp_path: Path) -> None:
    one, told = gate(tmp_path, Scripted())
    verdict = one.judge_checkpoint(CHECKPOINT, Mute("child"), REFERENCES)
    assert verdict.decision == "approve"
    assert told == [verdict]
    assert verdict.subject == CHECKPOINT.id
    assert (verdict.look, verdict.alpha_spent) == (1, one.budget.spent)
    assert set(one.costs) == {"scripted"}
    assert one.tokens == {"scripted": 2000}


def raises(
    self: Scripted, references: dict[Reference, Speaker], look: Look
) -> Sequence[Measurement]:
    raise RuntimeError("the engine\ndied")


def raises_halfway(
    self: Scripted, references: dict[Reference, Speaker], look: Look
) -> Sequence[Measurement]:
    class Broken(list[Measurement]):
        def __iter__(self) -> Iterator[Measurement]:
            yield from super().__iter__()
            raise CannotRun("the server at port 1 does not answer; start it")

    return Broken([self.one("parent", look)])


def returns_nan(
    self: Scripted, references: dict[Reference, Speaker], look: Look
) -> Sequence[Measurement]:
    return [self.one(r, look).model_copy(update={"high": math.nan}) for r in references]


def returns_nothing(
    self: Scripted, references: dict[Reference, Speaker], look: Look
) -> Sequence[Measurement]:
    return []


def returns_none(
    self: Scripted, references: dict[Reference, Speaker], look: Look
) -> Sequence[Measurement]:
    return None  # type: ignore[return-value]


def returns_text(
    self: Scripted, references: dict[Reference, Speaker], look: Look
) -> Sequence[Measurement]:
    return ["approve"]  # type: ignore[list-item]


def claims_without_a_sample(
    self: Scripted, references: dict[Reference, Speaker], look: Look
) -> Sequence[Measurement]:
    return [self.one(r, look).model_copy(update={"n": 0}) for r in references]


def forgets_the_origin(
    self: Scripted, references: dict[Reference, Speaker], look: Look
) -> Sequence[Measurement]:
    return [self.one("parent", look)]


def waives_its_own_requirement(
    self: Scripted, references: dict[Reference, Speaker], look: Look
) -> Sequence[Measurement]:
    undecided = self.one("origin", look).model_copy(update={"high": 0.5, "required": False})
    return [self.one("parent", look), undecided]


def measures_at_a_laxer_level(
    self: Scripted, references: dict[Reference, Speaker], look: Look
) -> Sequence[Measurement]:
    return [self.one(r, look).model_copy(update={"level": 0.8}) for r in references]


def signs_for_another(
    self: Scripted, references: dict[Reference, Speaker], look: Look
) -> Sequence[Measurement]:
    return [self.one(r, look).model_copy(update={"instrument": "capability"}) for r in references]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (raises, "failed (RuntimeError: the engine died)"),
        (raises_halfway, "failed (CannotRun: the server at port 1 does not answer; start it)"),
        (returns_nan, "a figure is not finite"),
        (returns_nothing, "did not run"),
        (returns_none, "failed (TypeError"),
        (returns_text, "brought a str, not a Measurement"),
        (claims_without_a_sample, "no sample size"),
        (forgets_the_origin, "drift against origin did not run"),
        (waives_its_own_requirement, "not surely within"),
        (measures_at_a_laxer_level, "only at confidence 0.8"),
        (signs_for_another, "in the name of 'capability'"),
    ],
)
def test_a_spoiled_instrument_is_quarantined(tmp_path: Path, spoil: Measures, reason: str) -> None:
    instrument = Scripted()
    instrument.measure = lambda _, *rest: spoil(instrument, *rest)  # type: ignore[method-assign]
    verdict = judged(tmp_path, instrument)
    assert verdict.decision == "quarantine"
    assert reason in " ".join(verdict.reasons)
    assert Verdict.from_canonical(verdict.canonical()) == verdict


def test_an_instrument_that_cannot_say_what_it_brings_is_quarantined(tmp_path: Path) -> None:
    def lost(*_: object) -> Sequence[Measurement]:
        raise KeyError("skill")

    broken, silent = Scripted(), Scripted()
    broken.expects = lost  # type: ignore[method-assign,assignment]
    silent.expects = silent.measure = lambda *_: []  # type: ignore[method-assign]
    assert judged(tmp_path / "a", broken).decision == "quarantine"
    assert "it expects no measurement" in judged(tmp_path / "b", silent).reasons[0]


def test_a_policy_that_asks_for_nothing_approves_nothing(tmp_path: Path) -> None:
    verdict = Gate(Policy(batch=(), checkpoint=()), tmp_path).judge_checkpoint(
        CHECKPOINT, Mute("child"), REFERENCES
    )
    assert verdict.decision == "quarantine"


def test_a_veto_only_choice_cannot_approve_but_its_failure_blocks(tmp_path: Path) -> None:
    one, _ = gate(tmp_path, Scripted(), veto_only=True)
    verdict = one.judge_checkpoint(CHECKPOINT, Mute("child"), REFERENCES)
    assert verdict.decision == "quarantine"
    assert "Nothing required was measured" in verdict.reasons[0]
    assert one.budget.spent == 0


def test_asked_again_the_gate_gives_the_verdict_that_it_kept(tmp_path: Path) -> None:
    instrument = Scripted()
    first = judged(tmp_path, instrument)
    assert judged(tmp_path, instrument) == first
    assert len(instrument.looks) == 1


def test_other_references_are_another_question_and_another_look(tmp_path: Path) -> None:
    instrument = Scripted()
    one, _ = gate(tmp_path, instrument)
    one.judge_checkpoint(CHECKPOINT, Mute("child"), REFERENCES)
    verdict = one.judge_checkpoint(CHECKPOINT, Mute("child"), {"parent": Mute("another")})
    assert verdict.look == 2
    assert instrument.looks[0].seed != instrument.looks[1].seed
    assert instrument.looks[1].level > instrument.looks[0].level


def test_after_a_failure_the_subject_is_judged_anew_at_a_new_look(tmp_path: Path) -> None:
    broken = Scripted()
    broken.measure = lambda *_: raises(broken, {}, broken.looks[0])  # type: ignore[method-assign]
    assert judged(tmp_path, broken).decision == "quarantine"
    mended = judged(tmp_path, Scripted())
    assert (mended.decision, mended.look) == ("approve", 2)


def test_a_judgement_that_was_cut_off_keeps_its_look_and_its_items(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def killed(candidate: object, references: object, look: Look) -> Sequence[Measurement]:
        cut.looks.append(look)
        raise Killed

    cut, whole = Scripted(), Scripted()
    cut.measure = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        judged(tmp_path, cut)
    assert judged(tmp_path, whole).look == 1
    assert whole.looks == cut.looks


def test_a_verdict_that_cannot_be_recorded_is_not_given(tmp_path: Path) -> None:
    def full(_: Verdict) -> None:
        raise CannotRun("no space left; free some")

    one, _ = gate(tmp_path, Scripted())
    one._recorder = full
    with pytest.raises(CannotRun):
        one.judge_checkpoint(CHECKPOINT, Mute("child"), REFERENCES)


def example(text: str) -> Example:
    return Example(messages=(Message(role="user", content=text),))


def batch_of(*examples: Example) -> Batch:
    return Batch(round=1, examples=tuple(e.id for e in examples), bytes_digest="b", merkle_root="m")


class Dropping(Scripted):
    def dispositions(self, candidate: Candidate, look: Look) -> Sequence[Disposition]:
        first, second = candidate.examples
        return [
            Disposition(example=first.id, disposition="drop", reason="duplicate"),
            Disposition(example=second.id, disposition="keep"),
        ]


def test_exact_screens_spend_nothing_and_their_dispositions_travel(tmp_path: Path) -> None:
    examples = [example("a"), example("b")]
    one, _ = gate(tmp_path, Dropping(exact=True))
    references: dict[Reference, Speaker] = {"none": Mute("none")}
    verdict = one.judge_batch(
        batch_of(*examples), examples, references, forbidden=frozenset({"held-out prompt"})
    )
    assert verdict.decision == "approve"
    assert (verdict.look, verdict.alpha_spent, one.budget.spent) == (0, 0.0, 0)
    assert [d.disposition for d in verdict.dispositions] == ["drop", "keep"]


def test_examples_that_are_not_the_batchs_are_refused(tmp_path: Path) -> None:
    one, _ = gate(tmp_path, Scripted(exact=True))
    with pytest.raises(CannotRun, match="not those that it names"):
        one.judge_batch(batch_of(example("a")), [example("b")], {})


def test_an_unknown_instrument_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(CannotRun, match="unknown instrument 'screen'; did you mean 'screens'"):
        find(InstrumentChoice(name="screen"))
    assert {"screens", "diff", "capability"} <= set(known())


def test_a_setting_that_an_instrument_does_not_know_is_refused_in_one_line(tmp_path: Path) -> None:
    policy = Policy(checkpoint=(InstrumentChoice(name="diff", settings={"promts": 3}),), batch=())
    with pytest.raises(CannotRun, match="diff: unknown key 'promts'; did you mean") as refused:
        Gate(policy, tmp_path)
    assert "\n" not in str(refused.value)


def test_equal_seeds_give_equal_looks_and_the_budget_is_on_disk(tmp_path: Path) -> None:
    here, there = Scripted(), Scripted()
    judged(tmp_path / "here", here)
    judged(tmp_path / "there", there)
    assert here.looks[0].seed == there.looks[0].seed
    assert json.loads((tmp_path / "here" / "budget.json").read_text())["alpha"] == 0.05


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("reasoning/lmc", "did you mean 'lcm'?"),
        ("nowhere/lcm", "unknown environment 'nowhere'"),
        ("lcm", "write --target ENVIRONMENT/SKILL"),
        ("reasoning/lcm/0", "write --target ENVIRONMENT/SKILL"),
    ],
)
def test_a_target_that_no_environment_has_is_one_line_and_spends_no_look(
    target: str, complaint: str, tmp_path: Path
) -> None:
    command = ["gate", "checkpoint", "smollm2", "--parent", "smollm2", "--target", target]
    told = CliRunner().invoke(app, [*command, "--folder", str(tmp_path / "gate")])
    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (2, "", 1)
    assert complaint in told.stderr
    assert not (tmp_path / "gate").exists()
