"""Where to look: prompts that the models write themselves, and prompts on which they part.

For discovery only. What is found this way is counted on other prompts, which nothing of the outcome
chose, and the test of equality does not see it: a prompt that is asked more often because its first
answers differed would make equal sides look different.

Does not see: a subject that neither side comes upon when it is shown one of Regent's own prompts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from regent.models.speaker import Sampling
from regent.records import Message, digest
from supervisor.diffing.comparison import Paired, Responses
from supervisor.diffing.prompts import Prompt

#: How prompts are written: cooler than answers are, so that a small model keeps to the matter.
WRITING = Sampling(max_tokens=80, temperature=0.7)
_ASK = (
    "Here is something that a person said to an assistant:\n\n{example}\n\n"
    "Write something else that another person might say to it about {category}. "
    "Reply with that person's words alone."
)
_SHORTEST, _LONGEST = 4, 60  # words of a written prompt


def requests(examples: Sequence[Prompt]) -> list[Prompt]:
    """What a model is asked so that it writes a prompt of each example's category."""
    return [
        Prompt(
            f"write-{number}-{example.id}",
            example.category,
            example.stratum,
            (
                Message(
                    role="user",
                    content=_ASK.format(
                        example=example.turns[-1].content,
                        category=example.category.replace("-", " ").replace("_", " "),
                    ),
                ),
            ),
        )
        for number, example in enumerate(examples)
    ]


def written(
    asked: Sequence[Prompt], replies: Responses, known: Collection[str] = ()
) -> list[Prompt]:
    """The replies that can be asked as prompts: first paragraph, four to sixty words, each once.

    `known`: texts that are asked already. A reply is data: it is asked, never obeyed.
    """
    seen = {_plain(text) for text in known}
    found = []
    for request, (_, texts) in zip(asked, replies, strict=True):
        for text in texts:
            said = " ".join(text.strip().split("\n\n")[0].split()).strip("\"'“”* ")
            if not _SHORTEST <= len(said.split()) <= _LONGEST or _plain(said) in seen:
                continue
            seen.add(_plain(said))
            name = f"written-{digest(said.encode('utf-8', 'surrogatepass'))[:16]}"
            turns = (Message(role="user", content=said),)
            found.append(Prompt(name, request.category, request.stratum, turns))
    return found


def parting(pool: Paired, share: float = 0.25) -> list[int]:
    """Places of the prompts on which the sides part most, ascending: `share` of them, at least one.

    By energy distance of their embeddings prompt by prompt (Székely & Rizzo 2013): the mean
    distance across the sides less half of the mean distances within each.
    """
    apart = np.zeros(len(pool.left))
    for place in range(len(pool.left)):
        own = pool.prompt == place
        meaning = pool.features.meaning[own].astype(np.float64)
        sides = [meaning[pool.side[own] == s] for s in (0, 1)]
        apart[place] = _mean_distance(*sides) - 0.5 * sum(_mean_distance(s, s) for s in sides)
    most = max(1, round(share * len(apart)))
    return sorted(int(i) for i in np.argsort(-apart, kind="stable")[:most])


def _mean_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(a[:, None, :] - b[None, :, :], axis=2).mean())


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text.lower()).strip()
