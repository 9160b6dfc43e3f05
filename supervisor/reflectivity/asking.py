"""Putting questions to a model: log-probabilities of whole options, or a constrained choice.

Each is asked in both orders of its options, in the shipped manner or another (`manners`). With
weights, an option's score is the sum of its tokens' log-probabilities averaged over both orders
(`raw`), and the same divided by its tokens (`normalised`); the probability of the first option is
the softmax of the two. A server that gives none is held to one of the two options, greedily; a
reply that is neither is missing, and so is a score that is no number.

Answers are kept as they come, under the speaker's content-derived name and the words asked, so
that what was answered before a server died is not asked, nor counted, twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from regent.errors import CannotRun
from regent.models.local import LocalModel
from regent.models.shared_prefix import score_together
from regent.models.speaker import Conversation, Sampling, Scorer, Speaker
from regent.records import Message, canonical_json, digest
from supervisor.reflectivity.manners import SHIPPED, Manner

Floats = NDArray[np.float64]
ORDERS = ((0, 1), (1, 0))  # of the two options
_KEPT = 4  # numbers of an answer; a line with fewer is an older one, and asked again
_AT_ONCE = 64  # questions between two savings
_CALLS = 8  # to a server at once: each question has a schema of its own


class Asked(Protocol):
    """A text, a question on it and two options: a probing item, or a dilemma's telling.

    `quad` names neighbours that begin alike, which weights at hand answer in one pass.
    """

    @property
    def context(self) -> str: ...
    @property
    def question(self) -> str: ...
    @property
    def options(self) -> tuple[str, str]: ...
    @property
    def quad(self) -> str: ...


@dataclass(frozen=True)
class Answers:
    """Probability of the first option, by item: [n] each; NaN where there is no answer.

    `normalised` is by tokens; a constrained choice is 0, 1, or 0.5 where the two orders differ.
    `by_order`: [n, 2], where that option is shown first, and where it is shown second.
    """

    raw: Floats
    normalised: Floats
    by_order: Floats


def ask(
    speaker: Speaker,
    items: Sequence[Asked],
    folder: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
    manner: Manner = SHIPPED,
) -> Answers:
    """The speaker's answers to `items`, in order. `progress` is told how many are answered.

    Raises CannotRun where a server fails; what it answered is kept in `folder` for the next time.
    """
    kept = _Kept(folder, speaker.name)
    missing = [item for item in items if _key(item, manner) not in kept.rows]
    done = len(items) - len(missing)
    for start in range(0, len(missing), _AT_ONCE):
        some = missing[start : start + _AT_ONCE]
        kept.add([_key(item, manner) for item in some], _answers(speaker, some, manner))
        done += len(some)
        progress(done)
    known = [kept.rows[_key(item, manner)] for item in items]
    rows = np.array(known, dtype=np.float64).reshape(-1, _KEPT)
    return Answers(rows[:, 0], rows[:, 1], rows[:, 2:])


def conversation(
    item: Asked, order: tuple[int, int] = (0, 1), manner: Manner = SHIPPED
) -> Conversation:
    """The item as a user's turn, its options in this order, behind the manner's system turn."""
    asked = manner.user.format(
        context=item.context,
        question=item.question,
        one=item.options[order[0]],
        other=item.options[order[1]],
    )
    turn = Message(role="user", content=asked)
    return (Message(role="system", content=manner.system), turn) if manner.system else (turn,)


def _answers(speaker: Speaker, items: Sequence[Asked], manner: Manner) -> Floats:
    """(raw, normalised, either order) of each item: [n, 4]."""
    if isinstance(speaker, LocalModel):
        return _together(speaker, items, manner)
    scoring = "score" in speaker.can
    return _apart(speaker, items, manner) if scoring else _chosen(speaker, items, manner)


def _asked(items: Sequence[Asked], manner: Manner) -> tuple[list[Conversation], list[str]]:
    conversations = [conversation(i, o, manner) for i in items for o in ORDERS for _ in (0, 1)]
    options = [option for item in items for _ in ORDERS for option in item.options]
    return conversations, options


def _together(model: LocalModel, items: Sequence[Asked], manner: Manner) -> Floats:
    """Quad by quad: its four items begin alike."""
    quads = [list(quad) for _, quad in groupby(items, lambda item: item.quad)]
    asked = [[list(zip(*_asked([item], manner), strict=True)) for item in quad] for quad in quads]
    found = [one for quad in score_together(model, asked) for one in quad]
    return _probabilities(
        np.concatenate([one.nats for one in found]), np.concatenate([one.tokens for one in found])
    )


def _apart(speaker: Speaker, items: Sequence[Asked], manner: Manner) -> Floats:
    conversations, options = _asked(items, manner)
    nats = np.asarray(cast(Scorer, speaker).score(conversations, options), dtype=np.float64)
    return _probabilities(nats, np.array([max(1, len(option.split())) for option in options]))


def _probabilities(nats: Floats, lengths: NDArray[np.int64]) -> Floats:
    """From [n · 2 orders · 2 options] to [n, 4]; not a number becomes missing."""
    by_item = np.where(np.isfinite(nats), nats, np.nan).reshape(-1, len(ORDERS), 2)
    tokens = lengths.reshape(-1, len(ORDERS), 2)
    ways = [by_item.mean(axis=1), (by_item / tokens).mean(axis=1), by_item[:, 0], by_item[:, 1]]
    gaps = np.stack([scores[:, 1] - scores[:, 0] for scores in ways], axis=1)
    return np.asarray(1 / (1 + np.exp(np.clip(gaps, -60, 60))), dtype=np.float64)


def _chosen(speaker: Speaker, items: Sequence[Asked], manner: Manner) -> Floats:
    def vote(asked: tuple[Asked, tuple[int, int]]) -> float:
        item, order = asked
        how = Sampling(max_tokens=64, temperature=0.0, json_schema=_schema(item.options))
        (reply,) = speaker.sample([conversation(item, order, manner)], how)
        if not reply.ok:
            raise CannotRun(
                f"{speaker.name} failed to answer ({reply.error}); what it answered before is "
                "kept: when it answers again, repeat the command"
            )
        return _parsed(reply.text, item.options)

    with ThreadPoolExecutor(_CALLS) as pool:
        votes = list(pool.map(vote, [(item, order) for item in items for order in ORDERS]))
    by_order = np.array(votes).reshape(len(items), len(ORDERS))
    first = by_order.mean(axis=1)
    return np.column_stack([first, first, by_order])


def _schema(options: tuple[str, str]) -> dict[str, object]:
    return {
        "type": "object",
        "properties": {"answer": {"enum": list(options)}},
        "required": ["answer"],
        "additionalProperties": False,
    }


def _parsed(text: str, options: tuple[str, str]) -> float:
    """1 for the first option, 0 for the second, NaN for anything else."""
    try:
        answer = json.loads(text)["answer"]
    except (ValueError, KeyError, TypeError):
        return float("nan")
    return {options[0]: 1.0, options[1]: 0.0}.get(answer, float("nan"))


def _key(item: Asked, manner: Manner) -> str:
    """Names what is asked, not which item asks it, nor what the manner is called."""
    words = [manner.user, item.context, item.question, list(item.options)]
    return digest(canonical_json([*words, manner.system] if manner.system else words))


class _Kept:
    """Answers of one speaker, a JSON line each; without a folder, kept for this asking only."""

    def __init__(self, folder: Path | None, name: str) -> None:
        self.rows: dict[str, list[float]] = {}
        self.path = folder / f"{digest(name.encode())[:24]}.jsonl" if folder else None
        if self.path is not None and self.path.is_file():
            for line in self.path.read_text("utf-8").splitlines():
                try:
                    key, *found = json.loads(line)
                except ValueError:
                    continue  # cut off in the middle of writing: that item is asked again
                if len(found) == _KEPT:
                    self.rows[key] = [_number(value) for value in found]

    def add(self, keys: Sequence[str], answers: Floats) -> None:
        lines = []
        for key, row in zip(keys, answers.tolist(), strict=True):
            self.rows[key] = row
            lines.append(json.dumps([key, *(None if np.isnan(v) else v for v in row)]) + "\n")
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as file:
                    file.writelines(lines)
            except OSError as error:
                raise CannotRun(f"{self.path}: {error.strerror or error}") from error


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
