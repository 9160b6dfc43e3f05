"""How well is each concern told apart, on exemplars outside the fit?

    python -m benchmarks.concerns [--quick] [--json]

Embeds the shipped exemplars with MiniLM and fits each concern's scale. No bar: a concern below
the threshold is blind, which the diff says. A whole run writes benchmarks/results/concerns.json.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks.report import finish
from regent.models.embedder import Embedder
from supervisor.diffing.concerns import SEES_FROM, catalogue, scale


def run(quick: bool) -> dict[str, Any]:
    embed = Embedder().embed
    began = time.monotonic()
    concerns = catalogue()[: 3 if quick else None]
    scales = [scale(concern, embed) for concern in concerns]
    figures = {
        one.concern.name: {
            "auroc": round(one.auroc, 3),
            "low": round(one.low, 3),
            "high": round(one.high, 3),
            "pairs": len(one.concern.positive),
            "blind": one.blind,
        }
        for one in scales
    }
    seconds = round(time.monotonic() - began, 1)
    return {
        "seed": 0,
        "figures": {"sees_from": SEES_FROM, "concerns": figures, "seconds": seconds},
        "bars": {},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="three concerns")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    return finish("concerns", run(given.quick), given.json, whole=not given.quick)


if __name__ == "__main__":
    raise SystemExit(main())
