"""A diff as one self-contained HTML page: verdict first, then what differs, then what is not seen.

No script, no font and no image from elsewhere: the page opens anywhere, offline, and whatever a
response says is text in it and nothing more (Jinja escapes all that is filled in).
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from supervisor.diffing.comparison import Paired
from supervisor.diffing.report import sure_gaps

_MOST_POINTS = 1_500
_WIDTH, _HEIGHT, _LINE = 640, 420, 260  # of the map and of an interval's line, as in page.html
_COLOURS = ("#3566b8", "#d0602a")


def response_map(pool: Paired, seed: int) -> NDArray[np.float64]:
    """Two principal components of the responses' embeddings, and the side: [≤ 1500, 3]."""
    features, side = pool.features, pool.side
    kept = np.sort(np.random.default_rng(seed).permutation(len(side))[:_MOST_POINTS])
    centred = features.meaning[kept] - features.meaning[kept].mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    place = np.zeros((len(kept), 2))
    found = centred @ axes[:2].T
    place[:, : found.shape[1]] = found
    return np.column_stack([place, side[kept]])


def page(fields: dict[str, Any], points: NDArray[np.float64]) -> str:
    """The page of what `report.as_fields` gives; `points` as from `response_map`."""
    text = resources.files("supervisor.diffing").joinpath("page.html").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    low = points[:, :2].min(axis=0)
    span = np.maximum(points[:, :2].max(axis=0) - low, 1e-9)
    place = (points[:, :2] - low) / span * [_WIDTH - 20, _HEIGHT - 20] + 10
    dots = [
        (f"{x:.1f}", f"{y:.1f}", _COLOURS[int(side)])
        for (x, y), side in zip(place, points[:, 2], strict=True)
    ]
    return environment.from_string(text).render(
        **fields,
        dots=dots,
        sure_gaps=sure_gaps(fields["approvals"]) if fields["approvals"] else [],
        percent=_percent,
        signed=_signed,
        at=_at,
    )


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _signed(difference: float) -> str:
    return f"{difference:+.2f}"


def _at(difference: float) -> str:
    """Where a difference in [-1, 1] lies on the interval's line."""
    return f"{_LINE * (min(1.0, max(-1.0, difference)) + 1) / 2:.1f}"
