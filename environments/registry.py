"""Finds environments by name: the two that come with Regent and any that a package declares.

A package declares one under the entry-point group `regent.environments`; the value is a callable
without arguments that returns an `Environment`. The built-in two are known without an entry point
as well, because Regent also runs from its repository root without being installed
(`ray job submit --working-dir .`).

An entry point that does not load or does not keep the protocol is set aside with its problem and
leaves the others as they are. Does not cover: whether a third party's verifier is right.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import cast

from environments.protocol import Environment
from regent.errors import CannotRun

GROUP = "regent.environments"
BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "reasoning": "environments.reasoning:Reasoning",
        "mechanism": "environments.mechanism:Mechanism",
    }
)
_VERBS = ("task", "reset", "verify", "solution")


@dataclass(frozen=True)
class Discovery:
    """What was found: environments by name, where each came from, and the problems of the broken.

    `broken` maps `NAME (SOURCE)` to one line that says what is wrong.
    """

    environments: Mapping[str, Environment]
    sources: Mapping[str, str]
    broken: Mapping[str, str]


def discover() -> Discovery:
    """Every environment that this process can import. Never raises for a broken one."""
    # sys.path is the key so that a package that becomes importable later is found.
    return _discover(tuple(sys.path))


def environments() -> dict[str, Environment]:
    """The working environments by name."""
    return dict(discover().environments)


def environment(name: str) -> Environment:
    """The environment called `name`. Raises CannotRun naming the nearest known one."""
    found = discover()
    if name in found.environments:
        return found.environments[name]
    for label, problem in found.broken.items():
        if label.split(" (")[0] == name:
            raise CannotRun(f"environment {label} is broken: {problem}; mend or uninstall it")
    raise CannotRun(f"unknown environment '{name}'{nearest(name, found.environments)}")


def nearest(name: str, known: Mapping[str, object]) -> str:
    """`; did you mean 'X'?`, for the end of an error, or nothing where nothing is known."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"; did you mean '{near[0]}'?" if near else ""


@lru_cache(maxsize=4)
def _discover(_: tuple[str, ...]) -> Discovery:
    found: dict[str, Environment] = {}
    sources: dict[str, str] = {}
    broken: dict[str, str] = {}
    declared = [
        (EntryPoint(name=name, value=value, group=GROUP), "built in")
        for name, value in BUILT_IN.items()
    ]
    declared += sorted(
        (
            (point, point.dist.name if point.dist else "unknown package")
            for point in entry_points(group=GROUP)
            if BUILT_IN.get(point.name) != point.value
        ),
        key=lambda pair: (pair[0].name, pair[1]),
    )
    for point, source in declared:
        label = f"{point.name} ({source})"
        if point.name in found:
            broken[label] = f"the name is taken by the one from {sources[point.name]}"
            continue
        # Anything may escape from foreign code at import, sys.exit included.
        try:
            candidate = point.load()()
            problem = _breach(candidate, point.name)
        except (Exception, SystemExit) as error:
            problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if problem:
            broken[label] = problem
            continue
        found[point.name] = cast(Environment, candidate)
        sources[point.name] = source
    return Discovery(found, sources, broken)


def _breach(candidate: object, name: str) -> str:
    """In what way `candidate` does not keep the protocol; empty where it does."""
    if getattr(candidate, "name", None) != name:
        return f"its name is {getattr(candidate, 'name', None)!r}, not '{name}'"
    skills = getattr(candidate, "skills", None)
    if not isinstance(skills, dict) or not skills:
        return "its `skills` is not a mapping from skill to number of levels"
    for skill, levels in skills.items():
        if not isinstance(skill, str) or not isinstance(levels, int) or levels < 1:
            return f"its skill {skill!r} has {levels!r} levels"
    missing = [verb for verb in _VERBS if not callable(getattr(candidate, verb, None))]
    return f"it lacks {', '.join(missing)}" if missing else ""
