"""Finds an instrument by the name that a policy calls it.

Regent's own are known without installation; anyone adds one through the entry-point group
`regent.instruments`, whose value is a callable taking the settings (a dict) and returning an
`Instrument`. A name of Regent's own cannot be taken over by another package.
"""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from pydantic import ValidationError

from regent.config import InstrumentChoice
from regent.errors import CannotRun
from supervisor.instrument import Instrument

GROUP = "regent.instruments"
BUILT_IN = {
    "screens": "supervisor.screens:Screens",
    "diff": "supervisor.diffing.instrument:BehaviouralDiff",
    "capability": "supervisor.capability:Capability",
    "reflectivity": "supervisor.reflectivity.instrument:Reflectivity",
}


def known() -> tuple[str, ...]:
    """Names of all instruments that can be found, sorted."""
    return tuple(sorted({*BUILT_IN, *(point.name for point in entry_points(group=GROUP))}))


def find(choice: InstrumentChoice) -> Instrument:
    """The instrument that `choice` names, with its settings.

    Raises CannotRun, naming the nearest known name, if there is none; also if it does not load
    or refuses its settings.
    """
    target = BUILT_IN.get(choice.name)
    if target is None:
        points = [point for point in entry_points(group=GROUP) if point.name == choice.name]
        if not points:
            near = difflib.get_close_matches(choice.name, known(), n=1, cutoff=0.0)
            raise CannotRun(
                f"unknown instrument '{choice.name}'; did you mean '{near[0]}'? "
                f"(known: {', '.join(known())})"
            )
        if len({point.value for point in points}) > 1:
            raise CannotRun(
                f"two packages offer an instrument '{choice.name}' "
                f"({', '.join(sorted(point.value for point in points))}); uninstall one"
            )
        target = points[0].value
    try:
        make = EntryPoint(choice.name, target, GROUP).load()
        return cast(Instrument, make(dict(choice.settings)))
    except CannotRun:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CannotRun(
            f"instrument '{choice.name}': setting '{where}': {first['msg'].lower()}; "
            "mend the policy"
        ) from error
    except (ImportError, AttributeError) as error:
        raise CannotRun(
            f"instrument '{choice.name}': {target} does not load ({error}); "
            "reinstall the package that offers it"
        ) from error
    except Exception as error:
        raise CannotRun(
            f"instrument '{choice.name}' does not start with these settings ({error}); "
            "mend the policy"
        ) from error
