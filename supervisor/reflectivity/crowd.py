"""An artificial crowd: each checkpoint asked in each manner is a respondent.

Checkpoints differ in what they can do, manners in how they let it show. Answers are kept as they
come (see `asking`), so that a crowd that was broken off, or that grows, asks only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regent.errors import CannotRun
from regent.models.speaker import Speaker
from supervisor.reflectivity.asking import ask
from supervisor.reflectivity.item_response import (
    FEWEST_CHECKPOINTS,
    FEWEST_RESPONDENTS,
    Crowd,
    analyse,
)
from supervisor.reflectivity.items import Item
from supervisor.reflectivity.manners import MANNERS, Manner
from supervisor.reflectivity.scoring import right

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Gathered:
    """`responses`: [N, I], 1 right, 0 wrong, NaN missing or neither; `model` and `manner`: [N]."""

    responses: Floats
    model: tuple[str, ...]
    manner: tuple[str, ...]

    def analysed(self, items: Sequence[Item], seed: int = 0) -> Crowd:
        """What the crowd says of `items`, the ones that it was asked."""
        return analyse(self.responses, self.model, [item.quad for item in items], seed)


def enough(models: Sequence[str], manners: Sequence[Manner] = MANNERS) -> None:
    """Raises CannotRun where so few models could not be told anything by, before any is asked."""
    needed = max(FEWEST_CHECKPOINTS, -(-FEWEST_RESPONDENTS // len(manners)))
    if len(models) < needed:
        raise CannotRun(
            f"{len(models)} models in {len(manners)} manners are no crowd; name {needed} at least"
        )


def gather(
    speakers: Iterable[tuple[str, Speaker]],
    items: Sequence[Item],
    folder: Path | None = None,
    progress: Callable[[str, int], None] = lambda respondent, done: None,
    manners: Sequence[Manner] = MANNERS,
) -> Gathered:
    """Puts `items` to each speaker, by the name it is to be called, in each manner.

    Speakers are drawn one after the other, so that weights need not lie side by side in memory.
    Raises CannotRun on weights that come twice (they would count as two that agree), and where a
    server fails.
    """
    rows: list[Floats] = []
    names: list[tuple[str, str]] = []
    met: dict[str, str] = {}
    for name, speaker in speakers:
        if speaker.name in met:
            raise CannotRun(f"{name} and {met[speaker.name]} are the same model; name it once")
        met[speaker.name] = name
        for manner in manners:
            told = partial(progress, f"{name}, {manner.name}")
            answers = ask(speaker, items, folder, told, manner)
            share = right(items, answers.raw)
            rows.append(np.where(share == 0.5, np.nan, share))
            names.append((name, manner.name))
    model, manner_names = zip(*names, strict=True)
    return Gathered(np.array(rows), model, manner_names)
