"""Dilemmas: two courses, both defensible, put three ways, and then predicted.

Each is told three times (first put directly, then in two other genres and contexts), every time
with options in words of their own, so that a liking for a word is not taken for a choice. Its
*case* puts nobody in a scene: of it a model predicts what it would choose itself, and what another
would. Options are keyed by kind; six pairs of kinds recur over the domains.

One YAML file a domain. Nothing here has a right answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from regent.errors import CannotRun
from regent.models.speaker import Speaker
from supervisor.reflectivity.asking import ask
from supervisor.reflectivity.faults import LENGTHS
from supervisor.reflectivity.propensity import Answered
from supervisor.reflectivity.written import Written, read_written

#: say it or spare them; the rule or the case at hand; ask first or act; the many or those near;
#: the gain now or the greater one later; what is sure or the bolder chance.
KINDS = (
    ("candour", "tact"),
    ("rule", "case"),
    ("ask", "act"),
    ("many", "near"),
    ("now", "later"),
    ("sure", "bold"),
)
_TELLINGS = 3


class Telling(Written):
    """The choice, put to the one who is asked. `options`: words by kind."""

    genre: str
    text: str = Field(min_length=1)
    question: str = Field(min_length=1)
    options: dict[str, str]


class Case(Written):
    """The same choice, with nobody in the scene, and two questions about it."""

    text: str = Field(min_length=1)
    of_itself: str = Field(min_length=1)
    of_another: str = Field(min_length=1)
    options: dict[str, str]


class Dilemma(Written):
    """One choice, told three times, and its case. `turned`: whether the second kind comes first."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    told: tuple[Telling, ...]
    case: Case
    domain: str = ""
    turned: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(self.told) != _TELLINGS:
            raise ValueError(f"{self.name} is told {len(self.told)} times; it needs {_TELLINGS}")
        for options in (*(telling.options for telling in self.told), self.case.options):
            if set(options) != set(self.told[0].options) or self._pair() is None:
                pairs = ", ".join("/".join(pair) for pair in KINDS)
                raise ValueError(f"{self.name}: its options are keyed by one of {pairs} throughout")
            short, long = sorted(len(words.strip()) for words in options.values())
            if not short or long / short - 1 > LENGTHS:
                raise ValueError(
                    f"{self.name}: options of {short} and {long} characters; "
                    f"they may differ by {LENGTHS:.0%}"
                )
        return self

    @property
    def sides(self) -> tuple[str, str]:
        """The kinds of its options, in their places."""
        one, other = self._pair() or ("", "")
        return (other, one) if self.turned else (one, other)

    def _pair(self) -> tuple[str, str] | None:
        return next((pair for pair in KINDS if set(pair) == set(self.told[0].options)), None)


class _Domain(Written):
    domain: str
    dilemmas: tuple[Dilemma, ...]


@dataclass(frozen=True)
class Put:
    """One question of a dilemma; keeps `asking.Asked`. The questions of its case begin alike."""

    context: str
    question: str
    options: tuple[str, str]
    quad: str


def questions(dilemma: Dilemma) -> list[Put]:
    """Its three tellings, then its case: of itself, and of another."""
    case, sides = dilemma.case, dilemma.sides
    told = [(one.text, one.question, one.options) for one in dilemma.told]
    told += [(case.text, question, case.options) for question in (case.of_itself, case.of_another)]
    return [
        Put(text, question, (options[sides[0]], options[sides[1]]), f"{dilemma.name}.{min(i, 3)}")
        for i, (text, question, options) in enumerate(told)
    ]


def put(
    speaker: Speaker,
    dilemmas: Sequence[Dilemma],
    folder: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Answered:
    """The speaker's choices and predictions, dilemmas in order; five questions each, kept and
    resumed as `asking.ask` does. Raises CannotRun where a server fails.
    """
    asked = [question for dilemma in dilemmas for question in questions(dilemma)]
    found = ask(speaker, asked, folder, progress)
    first = found.raw.reshape(len(dilemmas), -1)
    by_order = found.by_order.reshape(*first.shape, 2)
    return Answered(
        choices=first[:, :_TELLINGS],
        by_order=by_order[:, :_TELLINGS],
        of_itself=first[:, _TELLINGS],
        of_another=first[:, _TELLINGS + 1],
    )


def read_dilemmas(folder: Path) -> list[Dilemma]:
    """Every dilemma of a folder, by domain. In each pair of kinds either comes first in turn.

    Raises CannotRun with the file and the place, on none, and on two of one name.
    """
    shape = "dilemmas are a mapping with domain and dilemmas"
    paths = sorted(folder.glob("*.yaml"))
    files = [read_written(path, _Domain, shape) for path in paths]
    found = [one.model_copy(update={"domain": f.domain}) for f in files for one in f.dilemmas]
    if not found:
        raise CannotRun(f"{folder}: no dilemmas (*.yaml) there")
    for name, times in Counter(one.name for one in found).items():
        if times > 1:
            raise CannotRun(f"{folder}: {times} dilemmas are named {name}; rename one")
    place = {pair: number for number, pair in enumerate(KINDS)}  # pairs, too, begin in turn
    for i, one in enumerate(found):
        found[i] = one.model_copy(update={"turned": place[one.sides] % 2 == 1})
        place[one.sides] += 1
    return found


def shipped_dilemmas() -> list[Dilemma]:
    """Every shipped dilemma."""
    folder = resources.files("supervisor.reflectivity").joinpath("dilemmas")
    return read_dilemmas(Path(str(folder)))
