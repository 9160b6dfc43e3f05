"""A file of examples is read whole or refused by its line, in one line that says what to mend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from regent.errors import CannotRun
from regent.records import TaskRef
from supervisor.cli_gate import app, read_examples

TURNS = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
GOOD = json.dumps({"messages": TURNS})


def file_of(folder: Path, *lines: str) -> Path:
    path = folder / "batch.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_messages_provenance_and_the_rejected_answer_are_read_in_order(tmp_path: Path) -> None:
    task = {"environment": "reasoning", "skill": "gcd", "level": 0, "seed": 3}
    row = {"messages": TURNS, "rejected": "5", "provenance": {"task": task, "agent": "w"}}
    first, second = read_examples(file_of(tmp_path, GOOD, "", json.dumps(row)))
    assert [m.content for m in first.messages] == ["2 + 2?", "4"]
    assert (second.rejected, second.provenance.agent) == ("5", "w")
    assert second.provenance.task == TaskRef.model_validate(task)


def test_other_keys_of_someone_elses_loop_are_left_alone(tmp_path: Path) -> None:
    row = {"messages": TURNS, "id": "x", "reward": 1.0}
    assert read_examples(file_of(tmp_path, json.dumps(row))) == read_examples(
        file_of(tmp_path, GOOD)
    )


def test_a_line_ends_where_jsonl_ends_it_and_nowhere_else(tmp_path: Path) -> None:
    """U+2028, U+0085 and a form feed may stand within a JSON string."""
    odd = "one\u2028two\u0085three"
    row = {"messages": [TURNS[0], {"role": "assistant", "content": odd}]}
    path = tmp_path / "batch.jsonl"
    path.write_bytes((json.dumps(row, ensure_ascii=False) + "\r\n" + GOOD).encode())
    first, _ = read_examples(path)
    assert first.messages[-1].content == odd


def without(key: str) -> str:
    return json.dumps({"messages": [{k: v for k, v in TURNS[0].items() if k != key}]})


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"messages": [', "each line is one JSON object"),
        ("messages", "each line is one JSON object"),
        ("7", "each line is one JSON object"),
        ('"messages"', "each line is one JSON object"),
        ("null", "each line is one JSON object"),
        ("[]", "each line is one JSON object"),
        ("{}", "'messages': field required"),
        ('{"messages": []}', "'messages': tuple should have at least 1 item"),
        (without("role"), "'messages.0.role': field required"),
        (without("content"), "'messages.0.content': field required"),
        (GOOD.replace("user", "human"), "'messages.0.role': input should be 'system'"),
        (GOOD.replace('"4"', "4"), "'messages.1.content': input should be a valid string"),
        (GOOD[:-1] + ', "provenance": {"task": "gcd"}}', "'provenance.task': "),
        (GOOD.replace('"4"', '"\\ud83d"'), "surrogates not allowed"),
        ("[" * 100_000, "each line is one JSON object"),
    ],
)
def test_a_line_that_is_no_example_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = file_of(tmp_path, GOOD, "", line, GOOD)
    with pytest.raises(CannotRun) as refused:
        read_examples(path)
    said = str(refused.value)
    assert said.startswith(f"{path}, line 3: ")
    assert complaint in said
    assert "\n" not in said


def test_a_skill_that_is_no_node_is_refused_before_a_look_is_spent(tmp_path: Path) -> None:
    asked = ["checkpoint", "smollm2", "--parent", "smollm2", "--folder", str(tmp_path)]
    told = CliRunner().invoke(app, [*asked, "--skill", "reasoning/products"])
    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (2, "", 1)
    assert "write ENVIRONMENT/SKILL/LEVEL" in told.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_or_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="No such file or directory; give a JSONL file"):
        read_examples(tmp_path / "absent.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"messages": "\xe9"}')
    with pytest.raises(CannotRun, match="it is not UTF-8"):
        read_examples(tmp_path / "latin.jsonl")
    with pytest.raises(CannotRun, match="holds no example"):
        read_examples(file_of(tmp_path, "", "  "))


@pytest.mark.parametrize("content", ["no JSON", "", None])
def test_the_command_says_it_in_one_line_and_ends_with_2(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "batch.jsonl"
    if content is not None:
        path.write_text(content, "utf-8")
    result = CliRunner().invoke(app, ["batch", str(path), "--parent", "smollm2"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"regent: {path}")
    assert result.stderr.count("\n") == 1
