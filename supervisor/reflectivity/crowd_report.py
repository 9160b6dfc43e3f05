"""What a crowd says of each item, as JSON fields and as a page for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, get_args

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from supervisor.reflectivity.crowd import Gathered
from supervisor.reflectivity.item_response import THRESHOLD, Crowd, Word
from supervisor.reflectivity.items import Item
from supervisor.reflectivity.report import known

_SHOWN = 30


def crowd_fields(gathered: Gathered, crowd: Crowd, items: Sequence[Item]) -> dict[str, Any]:
    """The crowd, its respondents, and every item; unknown and unbounded are null."""
    counts = Counter(one.word for one in crowd.items)
    told = zip(items, crowd.items, strict=True)
    return {
        **{name: known(value) for name, value in asdict(crowd).items() if name != "items"},
        "better": crowd.better,
        "threshold": THRESHOLD,
        "asked": [
            {"model": model, "manner": manner, "accuracy": _share(row)}
            for model, manner, row in zip(
                gathered.model, gathered.manner, gathered.responses, strict=True
            )
        ],
        "counts": {word: counts[word] for word in get_args(Word)},
        "items": [
            {
                "id": item.id,
                "subtask": item.subtask,
                **{name: known(value) for name, value in asdict(one).items()},
            }
            for item, one in told
        ],
    }


def show_crowd(fields: dict[str, Any]) -> RenderableType:
    """The crowd in a few lines, then the items that do not tell its members apart."""
    counts, every = fields["counts"], len(fields["items"])
    lines = [
        Text(
            f"{fields['respondents']} respondents of {fields['checkpoints']} checkpoints, "
            f"{every} items",
            style="bold",
        ),
        Text(
            f"everybody right: {counts['all right']}, nobody: {counts['none right']}, "
            f"unanswered: {counts['unanswered']}; of these nothing is known"
        ),
    ]
    if fields["blind"]:
        return Group(*lines, Text(f"Blind: {fields['blind']}.", style="yellow"))
    better = {"1PL": "no more than chance", "2PL": "more than chance"}[fields["better"]]
    lines += [
        Text(
            f"scores spread more than coins' (p = {fields['p_value']:.2g}); "
            f"worth {fields['effective']:.0f} independent respondents; reliability "
            f"{fields['reliability']:.2f}; items differ in discrimination {better} "
            f"(AIC: 1PL {fields['aic_1pl']:.0f}, 2PL {fields['aic_2pl']:.0f})"
        ),
        Text(
            f"surely flat (discrimination below {fields['threshold']:g}): {counts['flat']}, "
            f"surely above zero: {counts['tells']}, unsure: {counts['unsure']}"
        ),
    ]
    flat = [row for row in fields["items"] if row["word"] == "flat"]
    flat.sort(key=lambda row: row["discrimination"])
    if not flat:
        return Group(*lines)
    table = Table("does not discriminate", "slope", "bounds", "item-rest", "right", box=None)
    for row in flat[:_SHOWN]:
        table.add_row(
            row["id"],
            f"{row['discrimination']:.2f}",
            f"{_bound(row['low'])} to {_bound(row['high'])}",
            "?" if row["item_rest"] is None else f"{row['item_rest']:.2f}",
            f"{row['share']:.0%}",
        )
    more = [Text(f"and {len(flat) - _SHOWN} more; --json has all")] if len(flat) > _SHOWN else []
    return Group(*lines, table, *more)


def _share(row: np.ndarray[Any, np.dtype[np.float64]]) -> float | None:
    seen = row[~np.isnan(row)]
    return float(seen.mean()) if len(seen) else None


def _bound(value: float | None) -> str:
    return "∞" if value is None else f"{value:.2f}"
