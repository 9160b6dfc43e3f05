"""An atlas: clusters of one side's responses, kept in a file, so that rounds of a lineage compare.

Every diff finds behaviours of its own, which is what it is for, but "cluster 3" of one is not
"cluster 3" of the next. An atlas is found once, on what the first left side (the origin, say) says
to discovery prompts, and counted in every later diff that names its file: twenty small steps in one
direction then stand in one row. Its shares are of the same regions of meaning, whoever speaks.

Does not see: what lies in no region of its own; everything is in some region, the nearest.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from regent.errors import CannotRun
from supervisor.diffing.behaviours import Behaviour
from supervisor.diffing.clusters import Assigned, regions, talk_of
from supervisor.diffing.comparison import Paired

_REGIONS = 16
_SEED = 0
_DIGITS = 5  # of a coordinate in the file


@dataclass(frozen=True)
class Region:
    """A cluster's centre, [384], and the words that set it apart."""

    id: str
    label: str
    terms: tuple[str, ...]
    centre: tuple[float, ...]


def draw_atlas(pool: Paired) -> tuple[Region, ...]:
    """Regions of the left side's responses, at most sixteen; `pool` holds discovery prompts only.

    Raises CannotRun where there are too few responses for two regions.
    """
    own = pool.features.rows(np.flatnonzero(pool.side == 0))
    found = regions(own, _REGIONS, _SEED)
    if not found:
        raise CannotRun(
            f"{len(own.texts)} responses to find an atlas on are too few; 16 are needed: "
            "give more, or leave --atlas out"
        )
    return tuple(
        Region(
            f"atlas-{index:02d}",
            talk_of(terms),
            terms,
            tuple(round(float(x), _DIGITS) for x in centre),
        )
        for index, (centre, terms) in enumerate(found)
    )


def behaviours(atlas: tuple[Region, ...]) -> list[Behaviour]:
    """Each region as the behaviour "nearest to it"."""
    if not atlas:
        return []
    centres = np.array([region.centre for region in atlas], dtype=np.float32)
    half = 0.5 * np.einsum("rd,rd->r", centres, centres)
    nearest = Assigned(lambda seen: np.argmax(seen.meaning @ centres.T - half, axis=1))
    return [
        Behaviour(region.id, region.label, "atlas", nearest.member({index}), region.terms)
        for index, region in enumerate(atlas)
    ]


def write_atlas(atlas: tuple[Region, ...], file: Path) -> None:
    """As one JSON list. Raises CannotRun where it cannot be written."""
    try:
        file.write_text(json.dumps([asdict(region) for region in atlas]), "utf-8")
    except OSError as error:
        raise CannotRun(f"{file}: the atlas was not written ({error.strerror or error})") from error


def read_atlas(file: Path) -> tuple[Region, ...]:
    """Raises CannotRun where the file is no atlas."""
    try:
        rows = json.loads(file.read_text("utf-8"))
        atlas = tuple(
            Region(
                str(row["id"]),
                str(row["label"]),
                tuple(map(str, row["terms"])),
                tuple(map(float, row["centre"])),
            )
            for row in rows
        )
        widths = {len(region.centre) for region in atlas}
        if len(atlas) < 2 or len(widths) != 1 or not np.isfinite([r.centre for r in atlas]).all():
            raise ValueError("its regions do not fit together")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CannotRun(
            f"{file}: no atlas that `--atlas` wrote; name a new file to have one made"
        ) from error
    return atlas
