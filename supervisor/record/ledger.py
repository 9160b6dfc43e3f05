"""The ledger: the authority on what happened. Append-only, hash-chained, signed.

Each row holds the hash of the row before it, and its own hash is signed with the supervisor's
Ed25519 key; the newest hash is also kept, signed, beside the key, so that a shortened tail shows.
SQL triggers refuse UPDATE and DELETE as a belt; the chain is what convicts.

Does not cover: someone who holds the private key, nor one who restores an older ledger together
with its older signed head (the MLflow view keeps the head's hash as a witness elsewhere).
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from regent.errors import CannotRun
from regent.records import Record, canonical_json, digest
from supervisor.record import keys

ZERO = "0" * 64
HEAD = "head.json"
_ROW, _TIP = b"regent-ledger-row-v1\x00", b"regent-ledger-head-v1\x00"

_schema = sa.MetaData()
_ledger = sa.Table(
    "ledger",
    _schema,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("subject", sa.String(255), nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
    sa.Column("signature", sa.String(128), nullable=False),
    sa.UniqueConstraint("kind", "subject"),
)
_TRIGGERS = [
    f"CREATE TRIGGER IF NOT EXISTS ledger_no_{verb.lower()} BEFORE {verb} ON ledger "
    f"BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
    for verb in ("UPDATE", "DELETE")
]


@dataclass(frozen=True)
class Row:
    """One row as it was appended. `payload` is canonical JSON."""

    seq: int
    kind: str
    subject: str
    payload: bytes
    previous: str
    at: str
    hash: str
    signature: str

    def fields(self) -> dict[str, Any]:
        """The payload as a dict (a record's fields, with its class name under `kind`)."""
        value = json.loads(self.payload)
        if not isinstance(value, dict):
            raise CannotRun(
                f"ledger row {self.seq} ({self.kind}) holds no fields; verify the ledger"
            )
        return value


@dataclass(frozen=True)
class Problem:
    """What does not agree: `where` names the thing, `detail` says how.

    `altered` is False for what could not be looked at, or is merely behind: said, but no alarm.
    """

    where: str
    detail: str
    altered: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.detail}"


Entry = tuple[str, Record | Mapping[str, Any], str | None]


def row_hash(seq: int, kind: str, subject: str, payload: bytes, previous: str, at: str) -> str:
    """SHA-256 over all that a row says, in one unambiguous encoding."""
    return digest(canonical_json([seq, kind, subject, digest(payload), previous, at]))


class Ledger:
    """The ledger at `url` (SQLAlchemy), signed with the key pair in `key_folder`.

    An empty database gets its genesis row, which names the public key. Opening an existing one
    makes no key: without the private half it can be read and verified, and append refuses.
    `read_only` leaves the private half alone even where it lies there, for whoever only reads.
    """

    def __init__(
        self, url: str, key_folder: Path, *, busy_s: float = 30.0, read_only: bool = False
    ) -> None:
        self.url, self.key_folder = url, Path(key_folder)
        self._thread_lock = threading.Lock()
        try:
            parsed = sa.make_url(url)
            lite = parsed.get_backend_name() == "sqlite"
            self._engine = sa.create_engine(url, connect_args={"timeout": busy_s} if lite else {})
        except (SQLAlchemyError, ImportError) as error:
            raise CannotRun(f"ledger {url}: {error}; give an SQLAlchemy database URL") from error
        self._lite = lite
        if lite:
            sa.event.listen(self._engine, "connect", _own_transactions)
        # Asked before the rows are: another process may begin this ledger between the two, and its
        # head follows its rows.
        begun = (self.key_folder / HEAD).exists()
        with self._speaking():
            tip = self._tip() if sa.inspect(self._engine).has_table("ledger") else None
        if tip is not None:
            self.pair = keys.load(self.key_folder, public_only=read_only)
            return
        if read_only:
            raise CannotRun(f"ledger {url} holds no rows; give the ledger of a run that was begun")
        self.pair = keys.make_or_load(self.key_folder)
        if begun:
            raise CannotRun(
                f"ledger {url} is empty but {HEAD} beside the key knows rows; restore it"
            )
        self._create()

    def append(
        self, kind: str, record: Record | Mapping[str, Any], *, subject: str | None = None
    ) -> Row:
        """Append one row, once for each (kind, subject); the same again returns the row there is.

        `subject` defaults to the record's id (of a dict: the digest of its canonical JSON).
        Raises CannotRun if another payload stands under that name, or the database is full, locked
        or gone.
        """
        return self.extend([(kind, record, subject)])[0]

    def extend(self, entries: Sequence[Entry]) -> list[Row]:
        """Append several rows in one transaction: all or none, each as `append` would."""
        prepared = []
        for kind, record, subject in entries:
            payload = (
                record.canonical() if isinstance(record, Record) else canonical_json(dict(record))
            )
            name = subject or (record.id if isinstance(record, Record) else digest(payload))
            prepared.append((kind, name, payload))
        with self._speaking(), self._writing() as connection:
            tip = self._tip(connection)
            if tip is None:
                raise CannotRun(f"ledger {self.url} lost its rows; restore it from a copy")
            self._refuse_shortened(connection, tip)
            rows = []
            for kind, name, payload in prepared:
                row = self._find(kind, name, connection)
                if row is None:
                    row = tip = self._insert(connection, tip, kind, name, payload)
                elif row.payload != payload:
                    raise CannotRun(
                        f"ledger row {row.seq} already says otherwise about {kind} {name[:12]}; "
                        "rows are written once"
                    )
                rows.append(row)
            return rows

    def rows(self, kind: str | None = None, *, after: int = -1) -> list[Row]:
        """Rows in order, of one kind or all, with `seq` above `after`."""
        query = sa.select(_ledger).where(_ledger.c.seq > after).order_by(_ledger.c.seq)
        if kind is not None:
            query = query.where(_ledger.c.kind == kind)
        with self._speaking(), self._engine.connect() as connection:
            return [Row(**row) for row in connection.execute(query).mappings()]

    def find(self, kind: str, subject: str) -> Row | None:
        """The row about `subject` of that kind, if there is one."""
        with self._speaking(), self._engine.connect() as connection:
            return self._find(kind, subject, connection)

    def head(self) -> Row:
        """The newest row."""
        with self._speaking():
            tip = self._tip()
        if tip is None:
            raise CannotRun(f"ledger {self.url} lost its rows; restore it from a copy")
        return tip

    def verify(self) -> list[Problem]:
        """Recompute every hash, link and signature, and look for missing rows. Empty: all sound."""
        try:
            rows = self.rows()
            kept = self._kept_head()
        except (CannotRun, ValueError, TypeError) as error:
            return [Problem("ledger", f"cannot be read whole ({error})")]
        pair = self.pair
        if pair is None:
            return [Problem("ledger", f"no key in {self.key_folder} to verify it with")]
        problems = []
        previous, expected = ZERO, 0
        for row in rows:
            where = f"ledger row {row.seq} ({row.kind} {str(row.subject)[:12]})"
            if row.seq != expected:
                problems.append(Problem(where, f"rows {expected} to {row.seq - 1} are missing"))
            if row.previous != previous:
                problems.append(Problem(where, "does not follow from the row before it"))
            if row.hash != _recomputed(row):
                problems.append(Problem(where, "its content was altered (hash differs)"))
            if not pair.signed(_ROW + str(row.hash).encode(), row.signature):
                problems.append(Problem(where, "its signature is not the supervisor's"))
            previous, expected = row.hash, row.seq + 1
        if not rows or rows[0].kind != "genesis" or rows[0].subject != pair.public_hex:
            problems.append(
                Problem("ledger row 0", "is not the genesis row of the supervisor's key")
            )
        return problems + self._against_head(kept, rows)

    def _against_head(self, kept: dict[str, Any] | None, rows: list[Row]) -> list[Problem]:
        where = f"ledger head ({HEAD})"
        if kept is None:
            return [Problem(where, "is missing, so a shortened ledger would not show")]
        seq, tip, signature = kept.get("seq"), str(kept.get("hash")), str(kept.get("signature"))
        signed = self.pair is not None and self.pair.signed(
            _TIP + canonical_json([seq, tip]), signature
        )
        if not signed or not isinstance(seq, int):
            return [Problem(where, "its signature is not the supervisor's")]
        if not rows or seq > rows[-1].seq:
            last = rows[-1].seq if rows else -1
            return [Problem("ledger", f"rows {last + 1} to {seq} were removed from its end")]
        if all(row.hash != tip for row in rows if row.seq == seq):
            return [Problem(f"ledger row {seq}", "is not the row that the signed head names")]
        return []

    def _refuse_shortened(self, connection: sa.Connection, tip: Row) -> None:
        """Appending to a shortened ledger would sign its loss away."""
        kept = self._kept_head()
        if kept is None and tip.seq == 0:
            return
        query = sa.select(_ledger.c.hash).where(_ledger.c.seq == (kept or {}).get("seq"))
        if kept is None or connection.execute(query).scalar() != kept.get("hash"):
            raise CannotRun(
                f"ledger {self.url} lacks rows that its signed head knows; "
                "restore it from a copy, see `regent audit verify`"
            )

    def _kept_head(self) -> dict[str, Any] | None:
        try:
            value = json.loads((self.key_folder / HEAD).read_bytes())
        except FileNotFoundError:
            return None
        return value if isinstance(value, dict) else {}

    def _keep_head(self, row: Row) -> None:
        pair = self._signer()
        signature = pair.sign(_TIP + canonical_json([row.seq, row.hash]))
        partial = self.key_folder / f"{HEAD}.part"
        with partial.open("wb") as file:
            file.write(canonical_json({"seq": row.seq, "hash": row.hash, "signature": signature}))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.key_folder / HEAD)

    def _signer(self) -> keys.KeyPair:
        if self.pair is None or self.pair.private is None:
            raise CannotRun(f"{self.key_folder}: the ledger's private key is missing; restore it")
        return self.pair

    def _create(self) -> None:
        pair = self._signer()
        with self._speaking(), self._writing() as connection:
            _schema.create_all(connection)
            if self._lite:
                for trigger in _TRIGGERS:
                    connection.exec_driver_sql(trigger)
            if self._tip(connection) is None:
                payload = canonical_json({"format": 1, "public_key": pair.public_hex})
                self._insert(connection, None, "genesis", pair.public_hex, payload)

    def _insert(
        self, connection: sa.Connection, tip: Row | None, kind: str, name: str, payload: bytes
    ) -> Row:
        seq, previous = (0, ZERO) if tip is None else (tip.seq + 1, tip.hash)
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        hashed = row_hash(seq, kind, name, payload, previous, at)
        signature = self._signer().sign(_ROW + hashed.encode())
        row = Row(seq, kind, name, payload, previous, at, hashed, signature)
        connection.execute(_ledger.insert(), [vars(row)])
        return row

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """One writer at a time on this machine; the signed head follows the commit, in order."""
        self._signer()
        with self._thread_lock, (self.key_folder / "ledger.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with self._engine.connect() as connection:
                if self._lite:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                try:
                    yield connection
                    tip = self._tip(connection)
                    connection.commit()
                except BaseException:
                    connection.rollback()
                    raise
            if tip is not None:
                self._keep_head(tip)

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Turns what a database or disk says into one line."""
        try:
            yield
        except IntegrityError as error:
            raise CannotRun(
                f"ledger {self.url}: another supervisor appended meanwhile; try again"
            ) from error
        except (DBAPIError, OSError) as error:
            raise CannotRun(f"ledger {self.url}: {_plain(error)}") from error

    def _tip(self, connection: sa.Connection | None = None) -> Row | None:
        query = sa.select(_ledger).order_by(_ledger.c.seq.desc()).limit(1)
        if connection is None:
            with self._engine.connect() as own:
                found = own.execute(query).mappings().first()
        else:
            found = connection.execute(query).mappings().first()
        return Row(**found) if found else None

    def _find(self, kind: str, subject: str, connection: sa.Connection) -> Row | None:
        query = sa.select(_ledger).where(_ledger.c.kind == kind, _ledger.c.subject == subject)
        found = connection.execute(query).mappings().first()
        return Row(**found) if found else None


def _recomputed(row: Row) -> str:
    """The hash that the row's content gives, empty where a value is not even of its type."""
    try:
        return row_hash(row.seq, row.kind, row.subject, row.payload, row.previous, row.at)
    except (TypeError, ValueError):
        return ""


def _own_transactions(connection: Any, _: Any) -> None:
    """SQLite: transactions begin where we say; altered text is read, so that it can be named."""
    connection.isolation_level = None
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")


def _plain(error: Exception) -> str:
    text = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    if "full" in text or "No space" in text:
        return f"{text}; free some space, then `regent resume`"
    if "locked" in text:
        return "the database is locked by another process; end that process, or wait and try again"
    if "malformed" in text or "not a database" in text:
        return f"{text}; restore it from a copy"
    return f"{text}; see that it can be read and written"
