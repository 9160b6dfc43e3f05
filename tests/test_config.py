"""What a run is told: unknown keys and unreadable files are refused in one line, with the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from regent.config import load_config
from regent.errors import CannotRun


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"rounds: 2\nruonds: 3\n", "unknown key 'ruonds'; did you mean 'rounds'?"),
        (b"engine:\n  backand: vllm\n", "unknown key 'engine.backand'; did you mean 'backend'?"),
        (b"rounds: 0\n", "'rounds': input should be greater than or equal to 1"),
        (b"environments: []\n", "'environments': tuple should have at least 1 item"),
        (b"rounds: 2\nmodel: [smollm2\n", "line 3: "),
        (b"- rounds\n", "line 1: the file holds a list, not keys with values"),
        (b"lineage: caf\xe9\n", "it is not UTF-8"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(
    text: bytes, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(text)
    with pytest.raises(CannotRun) as told:
        load_config(path)
    said = str(told.value)
    assert said.startswith(str(path))
    assert complaint in said
    assert "\n" not in said


def test_a_missing_file_is_named() -> None:
    with pytest.raises(CannotRun, match=r"absent\.yaml: No such file"):
        load_config(Path("absent.yaml"))


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("")
    assert load_config(path) == load_config(None)
