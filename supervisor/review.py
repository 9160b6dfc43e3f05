"""What a person decides about what the gate would not: release, reject, revoke.

Every decision is a row in the ledger with its reason and its reviewer, written once. Canaries are
never released. Does not cover: overruling a veto (mend the batch and have it judged again), nor
promoting a released checkpoint, which the run does when it goes on.
"""

from __future__ import annotations

import getpass
from dataclasses import asdict, dataclass
from typing import Any, Literal

from regent.errors import CannotRun
from regent.records import Batch, Verdict
from supervisor.record.ledger import Ledger, Row
from supervisor.record.lineage import resolve
from supervisor.record.vault import Vault


@dataclass(frozen=True)
class Quarantined:
    """One batch or checkpoint that waits for a person."""

    subject: str
    subject_kind: Literal["batch", "checkpoint"]
    verdict: str
    reasons: tuple[str, ...]
    since: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Review:
    """Reviews the run that `ledger` records; released batches go through `vault`."""

    def __init__(self, ledger: Ledger, vault: Vault) -> None:
        self.ledger, self.vault = ledger, vault

    def quarantined(self) -> list[Quarantined]:
        """Subjects whose latest verdict is quarantine and that nobody reviewed yet, oldest first.

        Canaries are left out: nothing about them is a person's to decide.
        """
        reviewed = {row.subject for row in self.ledger.rows("review")}
        waiting = []
        for row, verdict in self._latest().values():
            if verdict.decision != "quarantine" or verdict.id in reviewed:
                continue
            if verdict.subject_kind == "batch" and self._is_canary(verdict.subject):
                continue
            waiting.append(
                Quarantined(
                    verdict.subject, verdict.subject_kind, verdict.id, verdict.reasons, row.at
                )
            )
        return sorted(waiting, key=lambda item: item.since)

    def release(self, id: str, reason: str, reviewer: str = "") -> Row:
        """Let what is quarantined go, on a person's word; returns the review's row.

        `id` is (the start of) the subject's or its verdict's. Raises CannotRun if it is unknown,
        not quarantined, a canary, or already rejected.
        """
        verdict = self._quarantined_verdict(id)
        if verdict.subject_kind == "checkpoint":
            return self._decide("release", verdict, reason, reviewer)
        batch = self._batch(verdict.subject)
        if batch.canary:
            raise CannotRun(f"batch {batch.id[:12]} is a canary; canaries are never trained on")
        row = self._decide("release", verdict, reason, reviewer)
        self.vault.release(batch, verdict)
        return row

    def reject(self, id: str, reason: str, reviewer: str = "") -> Row:
        """Refuse what is quarantined, for good. Raises CannotRun as `release` does."""
        return self._decide("reject", self._quarantined_verdict(id), reason, reviewer)

    def revoke(self, id: str, reason: str, reviewer: str = "") -> Row:
        """Take back a batch (nothing trains on it again) or a checkpoint (it cannot rule).

        Raises CannotRun if the id is unknown or the subject is already revoked for another reason.
        """
        kinds = {row.subject: row.kind for row in self._subjects()}
        subject = resolve(kinds, id, "batch or checkpoint")
        done = self.ledger.find("revoke", subject)
        if done is not None and done.fields()["reason"] != reason:
            raise CannotRun(f"{subject[:12]} was already revoked ({done.fields()['reason']})")
        return done or self.ledger.append(
            "revoke",
            {
                "subject_kind": kinds[subject],
                "reason": _stated(reason),
                "reviewer": reviewer or getpass.getuser(),
            },
            subject=subject,
        )

    def _decide(
        self, action: Literal["release", "reject"], verdict: Verdict, reason: str, reviewer: str
    ) -> Row:
        done = self.ledger.find("review", verdict.id)
        if done is not None:
            said = done.fields()
            if said["action"] == action:
                return done
            raise CannotRun(
                f"{verdict.subject[:12]} already has the review '{said['action']}' by "
                f"{said['reviewer']} ({said['reason']}); reviews are written once"
            )
        return self.ledger.append(
            "review",
            {
                "action": action,
                "subject": verdict.subject,
                "subject_kind": verdict.subject_kind,
                "reason": _stated(reason),
                "reviewer": reviewer or getpass.getuser(),
            },
            subject=verdict.id,
        )

    def _quarantined_verdict(self, id: str) -> Verdict:
        latest = {subject: verdict for subject, (_, verdict) in self._latest().items()}
        names = {verdict.id: verdict for verdict in latest.values()} | latest
        verdict = names[resolve(names, id, "judged batch or checkpoint")]
        if verdict.decision != "quarantine":
            raise CannotRun(
                f"{verdict.subject[:12]} is not quarantined (its verdict is {verdict.decision}); "
                "an approval is taken back with revoke, a veto stands"
            )
        return verdict

    def _latest(self) -> dict[str, tuple[Row, Verdict]]:
        """The newest verdict on each subject."""
        latest = {}
        for row in self.ledger.rows("verdict"):
            try:
                verdict = Verdict.from_canonical(row.payload)
            except ValueError as error:
                raise CannotRun(
                    f"ledger row {row.seq} (verdict {str(row.subject)[:12]}) is no verdict any "
                    "more: it was altered; `regent audit verify RUN` says what else was"
                ) from error
            latest[verdict.subject] = (row, verdict)
        return latest

    def _subjects(self) -> list[Row]:
        return self.ledger.rows("batch") + self.ledger.rows("checkpoint")

    def _batch(self, id: str) -> Batch:
        row = self.ledger.find("batch", id)
        if row is None:
            raise CannotRun(f"batch {id[:12]} was never deposited; nothing to release")
        return Batch.from_canonical(row.payload)

    def _is_canary(self, batch_id: str) -> bool:
        row = self.ledger.find("batch", batch_id)
        return row is not None and Batch.from_canonical(row.payload).canary


def _stated(reason: str) -> str:
    if not reason.strip():
        raise CannotRun("a review needs its reason; give it with --reason")
    return reason.strip()
