"""`regent diff` with an endpoint that limits, breaks or is silent: nothing is lost or made up.

A real server on loopback answers by script beside a recording of twenty responses.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from supervisor.cli_diff import app
from supervisor.diffing.comparison import pair
from supervisor.diffing.difference import difference
from supervisor.diffing.sides import Ask, Look, looks
from supervisor.naming import Voices
from tests.scripted_speakers import embed
from tests.test_models import completion, server

PROMPTS = [f"Say something about the number {i}." for i in range(20)]


def recording(folder: Path) -> str:
    path = folder / "right.jsonl"
    rows = [
        {"prompt_id": f"p{i}", "prompt": prompt, "response": f"It follows {i - 1}, they say."}
        for i, prompt in enumerate(PROMPTS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def answered(url: str, folder: Path) -> Look:
    speaker = Voices(folder / "logs").speaker
    model, kept = f"kingfisher@{url}", folder / "kept"
    (look,) = looks(model, recording(folder), speaker, Ask(), 0, kept, embed)
    return look


def asked(request: dict[str, Any]) -> str:
    return str(request["messages"][-1]["content"])


def test_a_rate_limited_endpoint_is_asked_again_until_it_answers(tmp_path: Path) -> None:
    seen: set[str] = set()

    def limited(_: int, request: dict[str, Any]) -> tuple[int, bytes]:
        if asked(request) in seen:
            return 200, completion("A number like any other.")
        seen.add(asked(request))
        return 429, b'{"error": {"message": "too many requests"}}'

    with server(limited) as (url, _):
        look = answered(url, tmp_path)
    assert [said for _, said in look.left] == [["A number like any other."]] * len(PROMPTS)


def test_what_a_breaking_endpoint_answered_is_kept_for_the_next_time(tmp_path: Path) -> None:
    broken = True

    def script(_: int, request: dict[str, Any]) -> tuple[int, bytes]:
        if broken and asked(request) == PROMPTS[7]:
            return 500, b"{}"
        return 200, completion("A number like any other.")

    with server(script) as (url, requests):
        names = [f"kingfisher@{url}", recording(tmp_path)]
        result = CliRunner().invoke(app, [*names, "--folder", str(tmp_path / "kept")])
        assert (result.exit_code, result.stdout) == (2, "")
        asking, complaint = result.stderr.splitlines()
        assert asking.startswith("asking")
        for said in ("1 of 20 answers", "HTTP 500", "repeat the command"):
            assert said in complaint
        broken, before = False, len(requests)
        assert len(answered(url, tmp_path).left) == len(PROMPTS)
        assert [asked(one) for one in requests[before:]] == [PROMPTS[7]]


@pytest.mark.parametrize("text", ["", None])
def test_empty_answers_are_answers_and_differ_from_words(text: str | None, tmp_path: Path) -> None:
    with server(lambda n, _: (200, completion(text))) as (url, _):
        look = answered(url, tmp_path)
    assert [said for _, said in look.left] == [[""]] * len(PROMPTS)
    found = difference(pair(look.left, look.right, embed))
    assert found.equality.p_value < 0.05
    assert found.verdict != "same"
