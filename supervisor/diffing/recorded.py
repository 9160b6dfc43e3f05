"""Recorded responses: JSONL in, two sides that answer the same prompts out.

One object a line: `{"prompt_id": "…", "prompt": "…", "response": "…"}`; several lines with one
`prompt_id` are several samples. Only prompts that both sides have are compared.

Does not cover: whether the two sides were sampled alike; that is for whoever recorded them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from regent.errors import CannotRun
from supervisor.diffing.comparison import Responses

Side = Mapping[str, Sequence[str]]  # prompt id → its samples
LONGEST = 20_000  # characters of a response that are looked at; the rest is cut, and counted


@dataclass(frozen=True)
class Recording:
    """One side: samples by prompt id, the prompts' texts, and how many responses were cut."""

    responses: dict[str, list[str]]
    prompts: dict[str, str]
    cut: int


@dataclass(frozen=True)
class Pairing:
    """Both sides on the prompts that they share, in one order; what only one has is counted."""

    left: Responses
    right: Responses
    only_left: int
    only_right: int


def read(file: Path) -> Recording:
    """A file of recorded responses. Raises CannotRun naming the line that does not parse.

    NUL characters are dropped and responses cut after `LONGEST` characters.
    """
    responses: dict[str, list[str]] = {}
    prompts: dict[str, str] = {}
    cut = 0
    try:
        with file.open(encoding="utf-8-sig", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                name, prompt, response = _row(file, number, line)
                if prompts.setdefault(name, prompt) != prompt:
                    raise CannotRun(
                        f"{file}, line {number}: prompt_id '{name[:40]}' stood with another prompt "
                        "before; give each prompt an id of its own"
                    )
                cut += len(response) > LONGEST
                responses.setdefault(name, []).append(response[:LONGEST])
    except OSError as error:
        raise CannotRun(
            f"{file}: {error.strerror or error}; give a model name or a JSONL file"
        ) from error
    except UnicodeDecodeError as error:
        raise CannotRun(f"{file}: it is no UTF-8 text ({error.reason}); give JSONL") from error
    if not responses:
        raise CannotRun(f"{file}: it holds no response; write one JSON object a line")
    return Recording(responses, prompts, cut)


def pair(left: Side, right: Side) -> Pairing:
    """Both sides on their common prompts, sorted by id. Raises CannotRun if there is none."""
    common = sorted(set(left) & set(right))
    if not common:
        raise CannotRun(
            f"the two sides share no prompt_id ({len(left)} left, {len(right)} right); "
            "record both on the same prompts"
        )
    return Pairing(
        [(name, list(left[name])) for name in common],
        [(name, list(right[name])) for name in common],
        len(left) - len(common),
        len(right) - len(common),
    )


def _row(file: Path, number: int, line: str) -> tuple[str, str, str]:
    where = f"{file}, line {number}"
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        told = f"{error.msg.lower()}, at character {error.pos + 1}"
        raise CannotRun(f"{where}: {told}; each line is one JSON object") from error
    except (ValueError, RecursionError) as error:
        raise CannotRun(f"{where}: {error}; each line is one JSON object") from error
    if not isinstance(row, dict):
        raise CannotRun(f"{where}: a {type(row).__name__}; each line is one JSON object")
    for key in ("prompt_id", "response"):
        if key not in row:
            raise CannotRun(f"{where}: '{key}' is missing; give prompt_id, prompt and response")
        if not isinstance(row[key], str):
            raise CannotRun(f"{where}: '{key}' is no text; put it in quotes")
    prompt = row.get("prompt", "")
    if not isinstance(prompt, str):
        raise CannotRun(f"{where}: 'prompt' is no text; put it in quotes")
    # Half a surrogate pair is no text that can be hashed or embedded.
    response = row["response"].replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    return row["prompt_id"], prompt, response
