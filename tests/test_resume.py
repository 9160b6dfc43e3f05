"""`regent resume` goes on with the same run only, and says what is another one and how to mend it.

The ledger is a real one; each refusal comes before Ray, the supervisor or an engine is started.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents import run as runs
from agents.live import SilentView
from regent.config import RunConfig, to_yaml
from regent.errors import CannotRun
from supervisor.record.ledger import Ledger


def begun(folder: Path, **fields: Any) -> Path:
    """A run's folder as it stands after its first ledger row."""
    config = RunConfig(folder=folder)
    (folder / "store").mkdir(parents=True)
    (folder / "checkpoints" / "origin").mkdir(parents=True)
    (folder / "supervisor").mkdir(mode=0o700)
    (folder / "config.yaml").write_text(to_yaml(config))
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", folder / "supervisor")
    ledger.append("run", {**runs._identity(config), **fields}, subject="run")
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(CannotRun) as told:
        runs.resume(folder, SilentView())
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize(
    ("code", "mend"),
    [
        ("0123456789ab", "git checkout 0123456789ab"),
        ("0123456789ab+fedcba987654", "resume it with those sources"),
    ],
)
def test_a_run_begun_by_other_code_names_both_and_the_mend(
    code: str, mend: str, tmp_path: Path
) -> None:
    said = refused(begun(tmp_path / "run", code=code))
    assert code in said
    assert runs.code_version() in said
    assert mend in said


def test_a_changed_configuration_is_named(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", seed=7)
    assert "config.yaml: seed is 0, the run was begun with 7" in refused(folder)


def test_a_refusal_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", seed=7)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    refused(folder)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_run_without_its_first_row_is_no_other_run(tmp_path: Path) -> None:
    config = RunConfig(folder=tmp_path)
    runs._refuse_another(tmp_path, runs._identity(config))


@pytest.mark.parametrize("kept", ["{broken", "[1]", ""])
def test_a_state_that_cannot_be_read_is_written_anew(kept: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(kept)
    state = runs.RunState(tmp_path)
    assert state.fields == {}
    state.set(state="running")
    assert runs.RunState(tmp_path).fields == {"state": "running"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"folder": "README.md/run"}, "name another folder"),
        ({"ray": {"address": "ray://127.0.0.1:10001"}}, "give the head's HOST:PORT"),
    ],
)
def test_what_cannot_begin_leaves_no_folder(
    change: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_text("a file")
    folder = tmp_path / str(change.pop("folder", "run"))
    with pytest.raises(CannotRun, match=complaint) as told:
        runs.start(RunConfig.model_validate({"folder": folder, **change}), SilentView())
    assert "\n" not in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


class Heard(SilentView):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


def test_a_finished_run_starts_nothing_and_says_so(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    runs.RunState(folder).set(state="finished", line="")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    heard = Heard()
    runs.resume(folder, heard)
    assert "finished all its rounds" in heard.told[0]
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
