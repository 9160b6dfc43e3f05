"""The ledger is the authority: what was appended stays, in order, signed, once; any change shows.

Spoiled ledgers are made with the sqlite3 module, triggers dropped, as an intruder would.
"""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regent.errors import CannotRun
from regent.records import Batch
from supervisor.record import keys
from supervisor.record.ledger import Ledger, row_hash

ROOT = Path(__file__).parent.parent


def opened(folder: Path, busy_s: float = 30.0) -> Ledger:
    return Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", folder / "supervisor", busy_s=busy_s)


def filled(folder: Path, rows: int = 5) -> Ledger:
    ledger = opened(folder)
    ledger.extend([("note", {"number": number}, None) for number in range(rows)])
    return ledger


def intrude(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / "ledger.sqlite") as database:
        database.execute("DROP TRIGGER IF EXISTS ledger_no_update")
        database.execute("DROP TRIGGER IF EXISTS ledger_no_delete")
        for statement in statements:
            database.execute(statement)
    database.close()


def flipped(column: str) -> str:
    """SQL for the column with its first digit changed."""
    return f"iif(substr({column}, 1, 1) = '0', '1', '0') || substr({column}, 2)"


def test_appending_the_same_again_returns_the_row_there_is(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    batch = Batch(round=0, examples=(), bytes_digest="", merkle_root="")
    first = ledger.append("batch", batch)
    assert ledger.append("batch", batch) == first
    assert opened(tmp_path).append("batch", batch) == first
    assert first.subject == batch.id
    assert Batch.from_canonical(first.payload) == batch
    assert [row.kind for row in ledger.rows()] == ["genesis", "batch"]


def test_a_name_cannot_be_given_a_second_meaning_and_nothing_of_that_call_stays(
    tmp_path: Path,
) -> None:
    ledger = opened(tmp_path)
    ledger.append("run", {"seed": 0}, subject="run")
    with pytest.raises(CannotRun, match="written once"):
        ledger.extend([("note", {"new": True}, None), ("run", {"seed": 1}, "run")])
    assert [row.kind for row in ledger.rows()] == ["genesis", "run"]
    assert ledger.verify() == []


def test_the_private_key_is_its_owners_alone_and_the_genesis_row_names_the_public_one(
    tmp_path: Path,
) -> None:
    ledger = opened(tmp_path)
    assert stat.S_IMODE((tmp_path / "supervisor").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "supervisor" / "ledger.key").stat().st_mode) == 0o600
    public = (tmp_path / "supervisor" / "ledger.pub").read_text().strip()
    assert ledger.rows()[0].fields()["public_key"] == public


def test_update_and_delete_are_refused_by_the_database_itself(tmp_path: Path) -> None:
    filled(tmp_path)
    for statement in ("UPDATE ledger SET kind = 'x'", "DELETE FROM ledger"):
        with (
            sqlite3.connect(tmp_path / "ledger.sqlite") as database,
            pytest.raises(sqlite3.IntegrityError, match="append-only"),
        ):
            database.execute(statement)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE ledger SET payload = CAST('{\"number\":9}' AS BLOB) WHERE seq = 3", "row 3"),
        ("UPDATE ledger SET kind = 'nota' WHERE seq = 3", "row 3"),
        ("UPDATE ledger SET at = replace(at, '2', '3') WHERE seq = 3", "row 3"),
        (f"UPDATE ledger SET signature = {flipped('signature')} WHERE seq = 3", "row 3"),
        (f"UPDATE ledger SET hash = {flipped('hash')} WHERE seq = 3", "row 3"),
        ("UPDATE ledger SET subject = CAST(x'ff' AS TEXT) WHERE seq = 3", "row 3"),
        ("UPDATE ledger SET payload = 7 WHERE seq = 3", "row 3"),
        ("DELETE FROM ledger WHERE seq = 3", "rows 3 to 3 are missing"),
        ("DELETE FROM ledger WHERE seq = 5", "rows 5 to 5 were removed from its end"),
        ("DELETE FROM ledger WHERE seq = 0", "rows 0 to 0 are missing"),
        ("DELETE FROM ledger", "rows 0 to 5 were removed from its end"),
    ],
)
def test_any_change_to_a_row_is_named(tmp_path: Path, statement: str, named: str) -> None:
    ledger = filled(tmp_path)
    assert ledger.verify() == []
    intrude(tmp_path, statement)
    assert any(named in str(problem) for problem in ledger.verify())


def test_a_rewritten_tail_needs_the_key(tmp_path: Path) -> None:
    """An intruder who recomputes the hashes still cannot sign them."""
    ledger = filled(tmp_path)
    last = ledger.head()
    forged = row_hash(last.seq, last.kind, last.subject, b'{"number":9}', last.previous, last.at)
    intrude(
        tmp_path,
        f"UPDATE ledger SET payload = CAST('{{\"number\":9}}' AS BLOB), hash = '{forged}' "
        f"WHERE seq = {last.seq}",
    )
    assert any("signature" in str(problem) for problem in ledger.verify())


def test_a_shortened_ledger_refuses_to_grow_so_its_loss_cannot_be_signed_away(
    tmp_path: Path,
) -> None:
    ledger = filled(tmp_path)
    intrude(tmp_path, "DELETE FROM ledger WHERE seq = 5")
    with pytest.raises(CannotRun, match="lacks rows"):
        ledger.append("note", {"number": 99})
    assert ledger.verify() != []


def lose_head(folder: Path) -> None:
    (folder / "supervisor" / "head.json").unlink()


def forge_head(folder: Path) -> None:
    head = folder / "supervisor" / "head.json"
    head.write_text(head.read_text().replace('"seq":5', '"seq":4'))


def lose_keys(folder: Path) -> None:
    for file in (folder / "supervisor").glob("ledger.*"):
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [(lose_head, "is missing"), (forge_head, "signature"), (lose_keys, "no key")],
)
def test_a_lost_or_forged_head_or_key_is_a_problem(
    tmp_path: Path, spoil: Callable[[Path], None], named: str
) -> None:
    filled(tmp_path)
    spoil(tmp_path)
    assert any(named in str(problem) for problem in opened(tmp_path).verify())


def test_with_the_public_key_alone_it_verifies_and_does_not_append(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "supervisor" / "ledger.key").unlink()
    ledger = opened(tmp_path)
    assert ledger.verify() == []
    with pytest.raises(CannotRun, match="private key"):
        ledger.append("note", {})


@settings(max_examples=25, deadline=None)
@given(
    entries=st.lists(
        st.tuples(
            st.sampled_from(["gap", "plan", "verdict"]),
            st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=20), max_size=3),
        ),
        max_size=12,
    ),
    cut=st.integers(0, 12),
)
def test_any_sequence_verifies_holds_each_entry_once_and_reads_back_in_order(
    entries: list[tuple[str, dict[str, int | str]]], cut: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledger = opened(folder)
        ledger.extend([(kind, fields, None) for kind, fields in entries[:cut]])
        for kind, fields in entries[cut:] + entries[:cut]:
            ledger.append(kind, fields)
        rows = opened(folder).rows()
        assert ledger.verify() == []
        assert [row.seq for row in rows] == list(range(len(rows)))
        once = []
        for kind, fields in entries:
            if (kind, fields) not in once:
                once.append((kind, fields))
        assert [(row.kind, row.fields()) for row in rows[1:]] == once


_APPEND = """
import sys
from pathlib import Path
from supervisor.record.ledger import Ledger
folder, name = Path(sys.argv[1]), sys.argv[2]
ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", folder / "supervisor")
for number in range(20):
    ledger.append("own", {"by": name, "number": number})
    ledger.append("shared", {"number": number})
"""


def test_two_processes_starting_and_appending_at_once_make_one_sound_chain(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", _APPEND, str(tmp_path), name], cwd=ROOT)
        for name in ("left", "right")
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    ledger = opened(tmp_path)
    assert ledger.verify() == []
    assert len(ledger.rows("own")) == 40
    assert len(ledger.rows("shared")) == 20


def test_a_ledger_that_another_process_begins_meanwhile_is_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between this one's look at an empty database and its first row, another writes both."""
    make = keys.make_or_load

    def meanwhile(folder: Path) -> keys.KeyPair:
        monkeypatch.setattr(keys, "make_or_load", make)
        filled(tmp_path)
        return make(folder)

    monkeypatch.setattr(keys, "make_or_load", meanwhile)
    ledger = opened(tmp_path)
    assert len(ledger.rows("note")) == 5
    assert ledger.verify() == []


def test_a_full_database_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    ledger = filled(tmp_path)

    def little_room(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA max_page_count = 20")

    import sqlalchemy as sa

    ledger._engine.dispose()
    sa.event.listen(ledger._engine, "connect", little_room)
    with pytest.raises(CannotRun, match=r"full; free some space, then `regent resume`$"):
        ledger.append("note", {"large": "x" * 200_000})
    assert opened(tmp_path).verify() == []
    assert len(opened(tmp_path).rows("note")) == 5


def test_a_locked_database_is_one_line(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    ledger = opened(tmp_path, busy_s=0.1)
    other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(CannotRun, match="locked by another process"):
        ledger.append("note", {"late": True})
    other.execute("ROLLBACK")
    other.close()
    ledger.append("note", {"late": True})


def test_a_reader_leaves_the_private_key_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    reader = Ledger(url, tmp_path / "supervisor", read_only=True)
    assert reader.verify() == []
    with pytest.raises(CannotRun, match="private key"):
        reader.append("note", {"from": "a reader"})
    with pytest.raises(CannotRun, match="no rows"):
        Ledger(f"sqlite:///{tmp_path / 'new.sqlite'}", tmp_path / "supervisor", read_only=True)


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/ledger.sqlite"])
def test_a_url_that_leads_nowhere_is_one_line(tmp_path: Path, url: str) -> None:
    with pytest.raises(CannotRun) as raised:
        Ledger(url, tmp_path / "supervisor")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(CannotRun, match="restore it from a copy"):
        opened(tmp_path)
