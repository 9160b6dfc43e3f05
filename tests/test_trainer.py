"""Training reads approved bytes only, starts from the weights it names, and is done once.

Whatever spoils the way from approval to weights makes training refuse before it starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from ray.exceptions import OutOfMemoryError, RayActorError

from agents.code import code_version, sources_digest
from agents.trainer import Trained, train
from agents.training import trainer_died
from regent.config import TrainConfig
from regent.errors import CannotRun
from regent.models.weights import checkpoint_digest
from regent.records import Batch, Checkpoint, Example, Message, Verdict
from regent.store import Store
from supervisor.record.ledger import Ledger
from supervisor.record.vault import Vault, build_batch

SETTINGS = TrainConfig(batch_size=2, lora_rank=2, max_length=64)


@dataclass
class Place:
    """A run's vault with one batch deposited, and a parent checkpoint that cannot be loaded."""

    vault: Vault
    batch: Batch
    parent: Checkpoint
    parent_folder: Path
    out: Path

    def approve(self) -> None:
        verdict = Verdict(
            subject=self.batch.id, subject_kind="batch", decision="approve",
            reasons=(), measurements=(), policy="policy",
        )  # fmt: skip
        self.vault.ledger.append("verdict", verdict)
        self.vault.release(self.batch, verdict)

    def train(self, seed: int = 0) -> Trained:
        return train(
            self.vault, self.batch.id, self.batch.bytes_digest, self.parent,
            self.parent_folder, self.out, SETTINGS, seed, round=1,
        )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Place:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", tmp_path / "supervisor")
    vault = Vault(Store(tmp_path / "store"), ledger)
    examples = [
        Example(
            messages=(
                Message(role="user", content=f"{n} + {n}?"),
                Message(role="assistant", content=f"{2 * n}"),
            )
        )
        for n in range(4)
    ]
    batch, data = build_batch(examples, 1, ["reasoning/chain_sum"])
    vault.deposit(batch, data, examples)
    folder = tmp_path / "parent"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"not really weights")
    parent = Checkpoint(round=0, name="origin", digest=checkpoint_digest(folder))
    return Place(vault, batch, parent, folder, tmp_path / "checkpoints")


def test_bytes_without_an_approval_are_refused(place: Place) -> None:
    with pytest.raises(CannotRun, match="no approved batch has them"):
        place.train()
    assert not place.out.exists()


def test_an_altered_parent_is_refused_by_name(place: Place) -> None:
    place.approve()
    (place.parent_folder / "model.safetensors").write_bytes(b"not really weightS")
    with pytest.raises(CannotRun, match=f"not checkpoint {place.parent.digest[:12]}"):
        place.train()
    assert not place.out.exists()


def test_altered_bytes_are_refused(place: Place) -> None:
    place.approve()
    blob = Path(place.vault.store.path(place.batch.bytes_digest))
    blob.write_bytes(blob.read_bytes().replace(b"3 + 3", b"3 + 4"))
    with pytest.raises(CannotRun, match="altered"):
        place.train()


def test_the_code_version_names_the_sources(tmp_path: Path) -> None:
    assert code_version() == code_version()
    (tmp_path / "agents").mkdir()
    source = tmp_path / "agents" / "one.py"
    source.write_text("x = 1\n")
    before = sources_digest(tmp_path)
    source.write_text("x = 2\n")
    assert sources_digest(tmp_path) != before


@pytest.mark.real
def test_a_run_done_again_gives_back_what_was_finished_unless_it_was_altered(
    place: Place, smollm2_folder: Path
) -> None:
    place.parent_folder = smollm2_folder
    place.parent = Checkpoint(round=0, name="origin", digest=checkpoint_digest(smollm2_folder))
    place.approve()
    first = place.train()
    assert first.checkpoint.parents == (place.parent.id,)
    assert first.checkpoint.training_run == first.run.id
    assert first.folder.name == f"r1-{first.run.id[:12]}" == first.checkpoint.name
    assert first.checkpoint.digest == checkpoint_digest(first.folder) != place.parent.digest
    assert (first.report.examples, first.report.steps, first.reused) == (4, 2, False)

    again = place.train()
    assert again.reused
    assert (again.checkpoint, again.report) == (first.checkpoint, first.report)

    with (first.folder / "config.json").open("a") as file:
        file.write("\n")
    mended = place.train()
    assert not mended.reused
    assert mended.checkpoint == first.checkpoint


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OutOfMemoryError("Task was killed due to the node running low on memory."), "free some"),
        (
            RayActorError(error_msg="The actor died: the node was running low on Memory."),
            "free some",
        ),
        (RayActorError(error_msg="The worker exited."), "died again and again"),
    ],
)
def test_a_trainer_that_memory_ended_is_told_from_one_that_died(
    error: Exception, said: str
) -> None:
    assert said in trainer_died(error)  # type: ignore[arg-type]
