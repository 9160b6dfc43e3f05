"""Training bytes leave the vault only on an approval that the ledger still proves.

Each way of spoiling the path from digest to approval must be refused, with its reason.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest

from regent.errors import CannotRun
from regent.records import (
    Batch,
    Decision,
    Disposition,
    Example,
    Message,
    Verdict,
    digest,
    merkle_root,
)
from regent.store import Store
from supervisor.record.ledger import Ledger
from supervisor.record.vault import Vault, build_batch, jsonl
from supervisor.review import Review


@dataclass
class Place:
    folder: Path
    ledger: Ledger
    vault: Vault


@pytest.fixture
def place(tmp_path: Path) -> Place:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", tmp_path / "supervisor")
    return Place(tmp_path, ledger, Vault(Store(tmp_path / "store"), ledger))


def example(number: int, rejected: str = "") -> Example:
    turns = (
        Message(role="user", content=f"{number} + {number}?"),
        Message(role="assistant", content=f"{2 * number} – sûr"),
    )
    return Example(messages=turns, rejected=rejected)


EXAMPLES = [example(number) for number in range(4)]


def judged(place: Place, batch: Batch, decision: Decision, drop: tuple[int, ...] = ()) -> Verdict:
    verdict = Verdict(
        subject=batch.id,
        subject_kind="batch",
        decision=decision,
        reasons=("because",),
        measurements=(),
        dispositions=tuple(
            Disposition(example=batch.examples[i], disposition="drop", reason="duplicate")
            for i in drop
        ),
        policy="policy",
    )
    place.ledger.append("verdict", verdict)
    return verdict


def approved(place: Place, drop: tuple[int, ...] = ()) -> str:
    """The released digest of an approved batch."""
    batch, data = build_batch(EXAMPLES, 0, ["reasoning/chain_sum"])
    place.vault.deposit(batch, data, EXAMPLES)
    row = place.vault.release(batch, judged(place, batch, "approve", drop))
    return str(row.fields()["released_digest"])


def test_a_line_holds_messages_and_id_and_the_rejected_answer_if_any() -> None:
    first, second = jsonl([example(1), example(2, "5")]).splitlines()
    assert json.loads(first) == {
        "id": example(1).id,
        "messages": [m.model_dump() for m in example(1).messages],
    }
    assert json.loads(second)["rejected"] == "5"


def test_an_approved_batch_comes_out_as_it_went_in(place: Place) -> None:
    batch, data = build_batch(EXAMPLES, 0, [])
    assert (batch.bytes_digest, batch.merkle_root) == (
        digest(data),
        merkle_root([e.id for e in EXAMPLES]),
    )
    assert place.vault.fetch(approved(place)) == data


def test_dropped_examples_stay_behind_and_the_row_names_both_digests(place: Place) -> None:
    released = approved(place, drop=(1, 3))
    kept = [EXAMPLES[0], EXAMPLES[2]]
    assert place.vault.fetch(released) == jsonl(kept)
    (row,) = place.ledger.rows("release")
    assert row.fields()["bytes_digest"] == digest(jsonl(EXAMPLES))
    assert row.fields()["merkle_root"] == merkle_root([e.id for e in kept])
    assert (row.fields()["examples"], row.fields()["dropped"]) == (2, 2)
    with pytest.raises(CannotRun, match="no approved batch"):
        place.vault.fetch(digest(jsonl(EXAMPLES)))


@pytest.mark.parametrize("decision", ["quarantine", "veto"])
def test_without_approval_nothing_is_released_or_fetched(place: Place, decision: Decision) -> None:
    batch, data = build_batch(EXAMPLES, 0, [])
    place.vault.deposit(batch, data)
    with pytest.raises(CannotRun, match="no approval"):
        place.vault.release(batch, judged(place, batch, decision))
    with pytest.raises(CannotRun, match="no approved batch"):
        place.vault.fetch(batch.bytes_digest)


def test_a_verdict_that_the_ledger_does_not_know_opens_nothing(place: Place) -> None:
    batch, data = build_batch(EXAMPLES, 0, [])
    place.vault.deposit(batch, data)
    forged = Verdict(
        subject=batch.id,
        subject_kind="batch",
        decision="approve",
        reasons=(),
        measurements=(),
        policy="policy",
    )
    with pytest.raises(CannotRun, match="no approval"):
        place.vault.release(batch, forged)


def test_a_verdict_on_another_batch_opens_nothing(place: Place) -> None:
    batch, data = build_batch(EXAMPLES, 0, [])
    other, other_data = build_batch(EXAMPLES[:2], 0, [])
    place.vault.deposit(batch, data)
    place.vault.deposit(other, other_data)
    with pytest.raises(CannotRun, match="another subject"):
        place.vault.release(batch, judged(place, other, "approve"))


def test_a_canary_is_never_released_even_when_approved(place: Place) -> None:
    batch, data = build_batch(EXAMPLES, 0, [], canary=True)
    place.vault.deposit(batch, data)
    with pytest.raises(CannotRun, match="canar"):
        place.vault.release(batch, judged(place, batch, "approve"))


def test_a_release_row_for_a_canary_would_still_not_open_the_door(place: Place) -> None:
    """Someone who may append cannot talk the door open: fetching walks to the batch itself."""
    batch, data = build_batch(EXAMPLES, 0, [], canary=True)
    place.vault.deposit(batch, data)
    verdict = judged(place, batch, "approve")
    fields = {"released_digest": batch.bytes_digest, "verdict": verdict.id}
    place.ledger.append("release", fields, subject=batch.id)
    with pytest.raises(CannotRun, match="may not be trained on"):
        place.vault.fetch(batch.bytes_digest)


@pytest.mark.parametrize("change", [b" ", b""])
def test_bytes_other_than_the_named_ones_are_not_deposited(place: Place, change: bytes) -> None:
    batch, data = build_batch(EXAMPLES, 0, [])
    with pytest.raises(CannotRun, match="build_batch"):
        place.vault.deposit(batch, data[:-1] + change)


def test_lines_other_than_the_named_examples_are_not_deposited(place: Place) -> None:
    batch, data = build_batch(EXAMPLES, 0, [])
    renamed = batch.model_copy(update={"examples": batch.examples[::-1]})
    with pytest.raises(CannotRun, match="not the examples"):
        place.vault.deposit(Batch.model_validate(renamed.model_dump()), data)


def test_one_flipped_byte_in_the_approved_bytes_is_refused(place: Place) -> None:
    released = approved(place)
    path = Path(place.vault.store.path(released))
    data = bytearray(path.read_bytes())
    data[17] ^= 1
    path.write_bytes(data)
    with pytest.raises(CannotRun, match="altered"):
        place.vault.fetch(released)


def test_one_altered_ledger_row_anywhere_is_refused(place: Place) -> None:
    released = approved(place)
    with sqlite3.connect(place.folder / "ledger.sqlite") as database:
        database.execute("DROP TRIGGER ledger_no_update")
        database.execute("UPDATE ledger SET at = replace(at, '2', '3') WHERE seq = 0")
    database.close()
    with pytest.raises(CannotRun, match=r"ledger row 0 .* altered"):
        place.vault.fetch(released)


def test_what_was_revoked_is_not_fetched_again(place: Place) -> None:
    released = approved(place)
    batch = place.ledger.rows("batch")[0].subject
    Review(place.ledger, place.vault).revoke(batch, "leaked answers", "ada")
    with pytest.raises(CannotRun, match="revoked"):
        place.vault.fetch(released)


def test_a_verdict_that_drops_everything_releases_nothing(place: Place) -> None:
    with pytest.raises(CannotRun, match="drops every example"):
        approved(place, drop=(0, 1, 2, 3))


def test_releasing_again_after_a_crash_is_the_same_row(place: Place) -> None:
    assert approved(place) == approved(place)
    assert len(place.ledger.rows("release")) == 1


def test_an_example_that_stands_twice_is_released_once(place: Place) -> None:
    twice = [EXAMPLES[0], EXAMPLES[1], EXAMPLES[0]]
    batch, data = build_batch(twice, 0, [])
    place.vault.deposit(batch, data, twice)
    told = tuple(
        Disposition(example=e.id, disposition="drop" if i == 2 else "keep")
        for i, e in enumerate(twice)
    )
    verdict = judged(place, batch, "quarantine").model_copy(
        update={"decision": "approve", "dispositions": told}
    )
    place.ledger.append("verdict", verdict)
    row = place.vault.release(batch, verdict)
    assert place.vault.fetch(str(row.fields()["released_digest"])) == jsonl(EXAMPLES[:2])
    assert row.fields()["dropped"] == 1
