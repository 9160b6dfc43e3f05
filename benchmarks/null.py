"""Is the diff quiet where nothing differs, and right at the tolerance?

    python -m benchmarks.null [--quick] [--json] [--looks N]

Null: SmolLM2 against itself (disjoint draws from a pool of 20 samples a prompt), and two speakers
that differ (temperatures 1.0 and 0.5) with their labels exchanged within each prompt. Counted: how
often equality is rejected at 5 %, and how often any behaviour is reported.
Tolerance: simulated sides whose contrast and every tested behaviour shift by exactly the tolerance,
with a look at each of four stages. Counted: how often `same`, and how often `different`, is said.
Whole runs write benchmarks/results/null.json.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.embedded import embed, keep, load, workers
from benchmarks.report import bar, finish
from regent.config import EngineConfig
from regent.models.embedded import cache_folder, smollm2_folder
from regent.models.engine import Engine
from regent.models.speaker import Sampling
from regent.models.weights import checkpoint_digest
from supervisor.diffing.behaviours import Behaviour
from supervisor.diffing.comparison import Answered, Levels, Responses, count, pair
from supervisor.diffing.difference import difference
from supervisor.diffing.drift import Word, drift, word
from supervisor.diffing.panel import Panel
from supervisor.diffing.prompts import Prompt, draw_all
from supervisor.served import ServedCheckpoint
from supervisor.statistics.exact import clopper_pearson

_ALPHA = 0.05
_TOKENS = 40
_POOL, _DRAWN = 20, 2  # samples a prompt in the pool, and on a side of one comparison
_LOOKS, _LEAST, _QUICK_LOOKS = 1_000, 200, 4  # comparisons of each kind; fewest that are kept
_TOLERANCE, _STAGES = 0.2, (50, 100, 150, 200)  # prompts at each look
_TESTED = (0, 8)  # behaviours beside the contrast, each at the tolerance

Said = list[tuple[str, list[str]]]
Alarm = tuple[bool, bool]  # equality rejected, any behaviour reported


def pool(prompts: list[Prompt], work: Path) -> tuple[Said, Said]:
    """SmolLM2's replies at temperature 1.0, `_POOL` a prompt, and at 0.5; kept in the cache."""
    panel = Panel(cache_folder() / "diff-pool")
    folder = smollm2_folder()
    with ExitStack() as running:
        # Started where something is not kept yet, and named by its weights: an engine's own
        # speaker is named by a port, which is never the same.
        engine = functools.cache(
            lambda: running.enter_context(Engine.start(folder, EngineConfig(), work))
        )
        speaker = ServedCheckpoint(checkpoint_digest(folder), folder, engine)
        warm = panel.ask(speaker, prompts, _POOL, Sampling(_TOKENS, 1.0))
        return warm, panel.ask(speaker, prompts, 2 * _DRAWN, Sampling(_TOKENS, 0.5))


def itself(warm: Said, seed: int) -> tuple[Responses, Responses]:
    """Two disjoint draws of one speaker's samples."""
    rng = np.random.default_rng([seed, 1])
    drawn = [(name, [said[i] for i in rng.permutation(len(said))]) for name, said in warm]
    return (
        [(name, said[:_DRAWN]) for name, said in drawn],
        [(name, said[_DRAWN : 2 * _DRAWN]) for name, said in drawn],
    )


def exchanged(warm: Said, cool: Said, seed: int) -> tuple[Responses, Responses]:
    """Two speakers that differ, their labels exchanged within each prompt."""
    rng = np.random.default_rng([seed, 2])
    sides: tuple[Said, Said] = ([], [])
    for (name, a), (_, b) in zip(warm, cool, strict=True):
        both = [a[i] for i in rng.permutation(len(a))[:_DRAWN]]
        both += [b[i] for i in rng.permutation(len(b))[:_DRAWN]]
        mixed = [both[i] for i in rng.permutation(len(both))]
        sides[0].append((name, mixed[:_DRAWN]))
        sides[1].append((name, mixed[_DRAWN:]))
    return sides


def alarms(pairs: Iterator[tuple[Responses, Responses]], rows: Path) -> list[Alarm]:
    """One alarm a pair, two processes at once. `rows`: embeddings of every text."""
    with workers(load, rows) as both:
        return list(both.map(_alarm, enumerate(pairs)))


def _alarm(numbered: tuple[int, tuple[Responses, Responses]]) -> Alarm:
    seed, (left, right) = numbered
    found = difference(pair(left, right, embed, sentences=True), alpha=_ALPHA, seed=seed)
    return found.equality.p_value <= _ALPHA, bool(found.behaviours)


def rate(flags: Sequence[bool]) -> dict[str, float]:
    """How many of `flags` are up, with the exact 95 % interval."""
    share, low, high = clopper_pearson(sum(flags), len(flags), 0.95)
    return {
        "alarms": sum(flags),
        "n": len(flags),
        "share": share,
        "low": round(low, 4),
        "high": round(high, 4),
    }


def at_tolerance(seed: int, tested: int) -> Word:
    """The word on two simulated sides whose every behaviour shifts by the tolerance; the first look
    that decides has it.
    """
    rng = np.random.default_rng([seed, tested, 3])
    prompts, many = _STAGES[-1], 1 + tested
    before = rng.uniform(0.1, 0.9 - _TOLERANCE, many)
    signs = np.append(1.0, rng.choice([-1.0, 1.0], tested))
    rates = np.where(signs > 0, [before, before + _TOLERANCE], [before + _TOLERANCE, before])
    shows = rng.random((2, prompts, many)) < rates[:, None, :]
    kinds = ["contrast"] + ["phrase"] * tested
    behaviours = [
        Behaviour(f"b{i}", "", kind, lambda _: np.zeros(0)) for i, kind in enumerate(kinds)
    ]
    levels = Levels(1 - _ALPHA, 1 - _ALPHA, prompts)
    for stage in _STAGES:
        said = [(str(i), [""]) for i in range(stage)]
        looked = Answered(said, said, np.tile(np.arange(stage), 2), np.repeat([0, 1], stage))
        rows = np.concatenate(shows[:, :stage].astype(np.float64))
        shifts = count(behaviours, rows, looked, levels)
        answer = word(drift(shifts, {b.id for b in behaviours}, _ALPHA, prompts), _TOLERANCE)
        if answer != "inconclusive":
            return answer
    return "inconclusive"


def run(quick: bool, looks: int) -> dict[str, Any]:
    prompts = draw_all("validation", 12 if quick else 50, 3)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        warm, cool = pool(prompts, work / "logs")
        rows = keep((text for _, said in (*warm, *cool) for text in said), work)
        same = alarms((itself(warm, seed) for seed in range(looks)), rows)
        mixed = alarms((exchanged(warm, cool, seed) for seed in range(looks)), rows)
        with workers(load, rows) as both:
            words = {
                tested: list(both.map(at_tolerance, range(looks), [tested] * looks))
                for tested in _TESTED
            }
    null = {
        "one model against itself, equality": rate([a for a, _ in same]),
        "one model against itself, any behaviour": rate([b for _, b in same]),
        "labels exchanged, equality": rate([a for a, _ in mixed]),
        "labels exchanged, any behaviour": rate([b for _, b in mixed]),
    }
    edge = {
        f"contrast and {tested} others at the tolerance, “{said}”": rate(
            [one == said for one in words[tested]]
        )
        for tested in _TESTED
        for said in ("same", "different")
    }
    bars = {
        f"{name}: not above 5 % (lower end of the 95 % interval)": bar(
            said["low"], _ALPHA, said["low"] <= _ALPHA
        )
        for name, said in (null | edge).items()
    }
    figures = {
        "prompts": len(prompts),
        "samples_a_side": _DRAWN,
        "tokens_a_response": _TOKENS,
        "null": null,
        "at_tolerance": edge,
    }
    return {"seed": 0, "figures": figures, "bars": bars}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="4 comparisons of 12 prompts each")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--looks", type=int, default=_LOOKS, help="comparisons of each kind")
    given = parser.parse_args()
    looks = _QUICK_LOOKS if given.quick else given.looks
    whole = not given.quick and looks >= _LEAST
    return finish("null", run(given.quick, looks), given.json, whole)


if __name__ == "__main__":
    raise SystemExit(main())
