"""Recorded responses: what is read, what is refused with its line, and what is compared.

1. Several lines with one prompt_id are several samples; only common prompts are compared.
2. A bad line is named with its number and the mend; nothing of it is guessed.
3. Odd texts (NUL, half a surrogate pair, 100 kB, unequal numbers of samples) do no harm.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regent.errors import CannotRun
from supervisor.diffing.recorded import LONGEST, pair, read

GOOD = {"prompt_id": "a", "prompt": "Why?", "response": "Because."}


def written(folder: Path, *lines: object) -> Path:
    file = folder / "side.jsonl"
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    file.write_text(text + "\n", "utf-8")
    return file


def test_lines_with_one_prompt_id_are_samples_in_their_order(tmp_path: Path) -> None:
    recording = read(written(tmp_path, GOOD, {**GOOD, "response": "So."}, "", {**GOOD, "extra": 1}))
    assert recording.responses == {"a": ["Because.", "So.", "Because."]}
    assert recording.prompts == {"a": "Why?"}


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ("{not json", "each line is one JSON object"),
        ("[1, 2]", "a list; each line is one JSON object"),
        ({"prompt": "Why?", "response": "x"}, "'prompt_id' is missing"),
        ({"prompt_id": "a", "prompt": "Why?"}, "'response' is missing"),
        ({**GOOD, "response": None}, "'response' is no text"),
        ({**GOOD, "prompt_id": 7}, "'prompt_id' is no text"),
        ({**GOOD, "prompt": ["Why?"]}, "'prompt' is no text"),
        ({**GOOD, "prompt": "How?"}, "stood with another prompt before"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: object, complaint: str) -> None:
    with pytest.raises(CannotRun) as refused:
        read(written(tmp_path, GOOD, bad))
    assert "side.jsonl, line 2" in str(refused.value)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_nothing_to_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="holds no response"):
        read(written(tmp_path, ""))
    with pytest.raises(CannotRun, match="No such file"):
        read(tmp_path / "gone.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CannotRun, match="no UTF-8"):
        read(tmp_path / "bytes.jsonl")


def test_odd_texts_are_kept_as_text(tmp_path: Path) -> None:
    odd = ["a\x00b", "half \ud800 pair", "x" * (LONGEST + 5), ""]
    lines = [json.dumps({**GOOD, "response": text}) for text in odd]
    recording = read(written(tmp_path, *lines))
    nul, half, long, empty = recording.responses["a"]
    assert nul == "ab"
    half.encode("utf-8")
    assert (len(long), recording.cut, empty) == (LONGEST, 1, "")


def test_only_common_prompts_are_compared_and_the_rest_is_counted() -> None:
    paired = pair({"b": ["1"], "a": ["2", "3"], "c": ["4"]}, {"a": ["5"], "b": ["6"], "d": ["7"]})
    assert paired.left == [("a", ["2", "3"]), ("b", ["1"])]
    assert paired.right == [("a", ["5"]), ("b", ["6"])]
    assert (paired.only_left, paired.only_right) == (1, 1)


def test_no_common_prompt_is_one_line() -> None:
    with pytest.raises(CannotRun, match="share no prompt_id"):
        pair({"a": ["1"]}, {"b": ["1"]})
