"""The table of `benchmarks.crowd` for the docs: head and rows, which `benchmarks.tables` sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def crowd_table(result: Mapping[str, Any]) -> tuple[list[str], list[list[object]]]:
    """What each crowd is worth, and its items by what is known of them."""
    words = ("flat", "tells", "unsure", "all right", "none right")
    rows: list[list[object]] = []
    for name, said in result["figures"]["crowds"].items():
        by_word = [sum(of[word] for of in said["words"].values()) for word in words]
        rows.append(
            [
                name,
                f"{said['respondents']} of {said['checkpoints']}",
                _figure(said["effective"], ".0f"),
                _figure(said["reliability"], ".2f"),
                _figure(said["p_value"], ".3g"),
                said["better"] or "blind",
                *by_word,
            ]
        )
    head = ["crowd", "respondents of checkpoints", "worth", "reliability", "p against coins"]
    return [*head, "model", *words], rows


def _figure(value: float | None, how: str) -> str:
    return "–" if value is None else f"{value:{how}}"
