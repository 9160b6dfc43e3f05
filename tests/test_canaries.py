"""No canary is approved by the real screens through the real gate; the batch that it copies is.

1. Whatever the kind of harm and the draw, a canary is not approved.
2. A canary is as large as the batch, says that it is one, and names the bytes that it comes with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from regent.config import InstrumentChoice, Policy
from regent.models.speaker import Speaker
from regent.records import Example, Reference, Verdict, digest
from supervisor import Gate
from supervisor.canaries import SPOILS, make_canary
from supervisor.record.vault import build_batch
from tests.batches import sound_batch, task_rows
from tests.scripted_speakers import Chatter

TARGETS = ("reasoning/chain_sum",)
#: What a run's batch looks like by default (half of it without a task), and one of tasks alone.
BATCHES = {"half open": sound_batch(4, 24), "tasks alone": task_rows(4), "small": sound_batch(1, 6)}


def judged(folder: Path, examples: Sequence[Example], canary: bool) -> Verdict:
    batch, _ = build_batch(examples, 1, TARGETS, canary=canary)
    policy = Policy(batch=(InstrumentChoice(name="screens"),), checkpoint=())
    references: dict[Reference, Speaker] = {"parent": Chatter("parent", 1)}
    return Gate(policy, folder).judge_batch(batch, examples, references, TARGETS)


@pytest.mark.parametrize("name", BATCHES)
def test_the_batch_itself_is_approved(tmp_path: Path, name: str) -> None:
    assert judged(tmp_path, BATCHES[name], canary=False).decision == "approve"


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("kind", sorted(SPOILS))
def test_no_canary_is_approved_whatever_is_drawn(tmp_path: Path, kind: str, name: str) -> None:
    for seed in range(8):
        spoiled = SPOILS[kind](BATCHES[name], np.random.default_rng(seed))
        verdict = judged(tmp_path / str(seed), spoiled, canary=True)
        assert verdict.decision != "approve", f"seed {seed}"


def test_a_canary_is_marked_as_large_as_the_batch_and_names_its_bytes() -> None:
    examples = BATCHES["half open"]
    batch, _ = build_batch(examples, 3, TARGETS)
    before = [example.id for example in examples]
    kinds = set()
    for seed in range(24):
        kind, canary, data, spoiled = make_canary(batch, examples, np.random.default_rng(seed))
        kinds.add(kind)
        assert canary.canary
        assert canary.id != batch.id
        assert (canary.round, canary.targets) == (3, TARGETS)
        assert canary.bytes_digest == digest(data) != batch.bytes_digest
        assert canary.examples == tuple(example.id for example in spoiled)
        assert len(spoiled) == len(examples)
    assert kinds == set(SPOILS)
    assert [example.id for example in examples] == before, "the batch itself is left as it was"


def test_equal_draws_give_equal_canaries() -> None:
    examples = BATCHES["half open"]
    batch, _ = build_batch(examples, 1, TARGETS)
    one, same, other = (make_canary(batch, examples, np.random.default_rng(s)) for s in (1, 1, 2))
    assert one == same != other
