"""The only door to training bytes.

A batch is deposited when it is assembled, released on an approving verdict (or by a person's
review of a quarantined one), and fetched by the digest of the released bytes. Fetching walks from
that digest back to the approval in a ledger that verifies, so neither an altered byte nor an
altered row can reach training. Canary batches never leave.

Does not cover: what training does with the bytes, nor copies that were taken before a revocation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from regent.errors import CannotRun
from regent.records import Batch, Example, Verdict, canonical_json, digest, merkle_root
from regent.store import Store
from supervisor.record.ledger import Ledger, Row


def jsonl(examples: Sequence[Example]) -> bytes:
    """The bytes that training reads: a canonical JSON object a line, in order.

    `{"id", "messages"}`, and `"rejected"` where there is one.
    """
    lines = []
    for example in examples:
        line = {"id": example.id, "messages": [m.model_dump() for m in example.messages]}
        if example.rejected:
            line["rejected"] = example.rejected
        lines.append(canonical_json(line) + b"\n")
    return b"".join(lines)


def build_batch(
    examples: Sequence[Example], round: int, targets: Sequence[str], canary: bool = False
) -> tuple[Batch, bytes]:
    """A batch of `examples` and the bytes that it names."""
    data = jsonl(examples)
    ids = tuple(example.id for example in examples)
    batch = Batch(
        round=round,
        examples=ids,
        bytes_digest=digest(data),
        merkle_root=merkle_root(list(ids)),
        targets=tuple(targets),
        canary=canary,
    )
    return batch, data


class Vault:
    """Training bytes of one run, kept in `store` and answered for in `ledger`."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self.store, self.ledger = store, ledger

    def deposit(self, batch: Batch, data: bytes, examples: Sequence[Example] = ()) -> Row:
        """Keep a batch's bytes (and the records of its examples, for their lineage).

        Raises CannotRun if the bytes are not those that the batch names.
        """
        if digest(data) != batch.bytes_digest:
            raise CannotRun(
                f"batch {batch.id[:12]}: its bytes hash to {digest(data)[:12]}, not to "
                f"{batch.bytes_digest[:12]}; build it again with build_batch"
            )
        ids = [_example_id(line) for line in data.splitlines()]
        if ids != list(batch.examples) or merkle_root(ids) != batch.merkle_root:
            raise CannotRun(
                f"batch {batch.id[:12]}: its lines are not the examples that it names; "
                "build it again with build_batch"
            )
        self.store.put(data)
        for example in examples:
            self.store.put_record(example)
        return self.ledger.append("batch", batch)

    def release(self, batch: Batch, verdict: Verdict) -> Row:
        """Open the door for `batch` on the word of `verdict`; the row names the released digest.

        What the verdict's dispositions drop stays behind: the released bytes are the other lines.
        An example that stands twice, kept once and dropped once, is released once.
        Raises CannotRun unless the verdict is in the ledger, is about this batch and approves it
        (or was released by a person's review); always for a canary.
        """
        name = f"batch {batch.id[:12]}"
        if batch.canary:
            raise CannotRun(f"{name} is a canary; canaries are never trained on")
        if self.ledger.find("batch", batch.id) is None:
            raise CannotRun(f"{name} was never deposited; deposit it first")
        if verdict.subject != batch.id or verdict.subject_kind != "batch":
            raise CannotRun(f"{name}: verdict {verdict.id[:12]} is about another subject")
        if self._approval(verdict.id, batch.id) is None:
            raise CannotRun(
                f"{name}: no approval in the ledger; see `regent review` to release it by hand"
            )
        dropped = {d.example for d in verdict.dispositions if d.disposition == "drop"}
        unknown = dropped.difference(batch.examples)
        if unknown:
            raise CannotRun(f"{name}: the verdict drops {min(unknown)[:12]}, which it has not")
        lines = self.store.get(batch.bytes_digest).splitlines(keepends=True)
        once = {d.example for d in verdict.dispositions if d.disposition == "keep"}
        kept = []
        for line in lines:
            example = _example_id(line)
            if example not in dropped or example in once:
                kept.append(line)
            if example in dropped:
                once.discard(example)
        if not kept:
            raise CannotRun(f"{name}: the verdict drops every example; nothing to train on")
        released = self.store.put(b"".join(kept))
        return self.ledger.append(
            "release",
            {
                "batch": batch.id,
                "bytes_digest": batch.bytes_digest,
                "released_digest": released,
                "merkle_root": merkle_root([_example_id(line) for line in kept]),
                "examples": len(kept),
                "dropped": len(lines) - len(kept),
                "verdict": verdict.id,
                "round": batch.round,
            },
            subject=batch.id,
        )

    def fetch(self, bytes_digest: str) -> bytes:
        """The released bytes called `bytes_digest`, to train on.

        Raises CannotRun if the ledger does not verify, no approval leads to that digest, it was
        revoked, or the bytes were altered.
        """
        name = f"training bytes {bytes_digest[:12]}"
        problems = self.ledger.verify()
        if problems:
            raise CannotRun(
                f"{name} refused: {problems[0]}; restore the ledger, see `regent audit verify`"
            )
        releases = [
            (row, fields)
            for row in self.ledger.rows("release")
            if (fields := row.fields())["released_digest"] == bytes_digest
        ]
        if not releases:
            raise CannotRun(f"{name} refused: no approved batch has them; train on released bytes")
        refusal = ""
        for row, fields in releases:
            refusal = self._refusal(row.subject, fields["verdict"])
            if not refusal:
                return self.store.get(bytes_digest)
        raise CannotRun(f"{name} refused: {refusal}")

    def _refusal(self, batch_id: str, verdict_id: str) -> str:
        """Why a release row opens nothing, empty if it does."""
        deposited = self.ledger.find("batch", batch_id)
        if deposited is None or Batch.from_canonical(deposited.payload).canary:
            return f"batch {batch_id[:12]} may not be trained on"
        if self._approval(verdict_id, batch_id) is None:
            return f"no approval of batch {batch_id[:12]} is in the ledger"
        revoked = self.ledger.find("revoke", batch_id)
        if revoked is not None:
            return f"batch {batch_id[:12]} was revoked ({revoked.fields()['reason']})"
        return ""

    def _approval(self, verdict_id: str, batch_id: str) -> Row | None:
        """The row that lets the batch go: an approving verdict, or a person's release of it."""
        row = self.ledger.find("verdict", verdict_id)
        if row is None:
            return None
        verdict = Verdict.from_canonical(row.payload)
        if verdict.subject != batch_id:
            return None
        if verdict.decision == "approve":
            return row
        review = self.ledger.find("review", verdict_id)
        if review is not None and review.fields()["action"] == "release":
            return review
        return None


def _example_id(line: bytes) -> str:
    try:
        return str(json.loads(line)["id"])
    except (ValueError, KeyError, TypeError) as error:
        raise CannotRun(
            "a line of the batch holds no example id; build it with build_batch"
        ) from error
