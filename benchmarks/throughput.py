"""Tokens a second through Regent's path against a bare asyncio client of the same vLLM server.

`python -m benchmarks.throughput [--quick] [--json]`. Requests of one kind go, in turn (A B A B …),
through a bare httpx client and through Regent's Ray workers and desk; the bar is on the median of
the paired ratios. Two loads: *decode* (short questions, 48 tokens each) and *prefill* (prompts of
about 100 tokens, 8 tokens each).
Also times the engine's start and a switch of checkpoints. Does not cover several servers or a GPU.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.report import bar, finish
from benchmarks.workers_path import WorkersPath
from regent.config import EngineConfig
from regent.errors import CannotRun
from regent.models.embedded import smollm2_folder
from regent.models.engine import MAX_NUM_SEQS, Engine

BAR = 0.90
_THINGS = ("rivers", "bridges", "clocks", "gardens", "engines", "letters", "markets", "islands")
_PLACES = ("in the mountains", "by the sea", "in a city", "on the moon", "in winter", "at night")
_FILLER = (
    "Here is some background that you may use: people have cared about this for a long time, they "
    "have written about it in many languages, and they disagree about what matters most. "
)


@dataclass(frozen=True)
class Request:
    """One chat turn and the most tokens of its reply."""

    prompt: str
    max_tokens: int


def make_requests(kind: str, n: int, rng: np.random.Generator) -> list[Request]:
    """`n` distinct requests of the "decode" or the "prefill" load."""
    requests = []
    for _ in range(n):
        number = int(rng.integers(10**9))
        thing, place = rng.choice(_THINGS), rng.choice(_PLACES)
        question = f"[{number}] Tell a short story about {thing} {place}."
        if kind == "prefill":
            # The number comes first, so that no two prompts share a cached prefix.
            question = f"[{number}] {_FILLER}{_FILLER}What would you ask about {thing} {place}?"
        requests.append(Request(question, 8 if kind == "prefill" else 48))
    return requests


def bare_path(engine: Engine, requests: Sequence[Request]) -> float:
    """Completion tokens a second of the plainest client: asyncio, httpx, nothing else."""

    async def ask(client: httpx.AsyncClient, one: Request) -> int:
        body = {
            "model": engine.model_name,
            "messages": [{"role": "user", "content": one.prompt}],
            "max_tokens": one.max_tokens,
            "temperature": 1.0,
        }
        answer = await client.post("/chat/completions", json=body)
        return int(answer.raise_for_status().json()["usage"]["completion_tokens"])

    async def all_at_once() -> int:
        limits = httpx.Limits(max_connections=MAX_NUM_SEQS)
        async with httpx.AsyncClient(
            base_url=engine.base_url,
            headers={"Authorization": f"Bearer {engine.api_key}"},
            limits=limits,
            timeout=engine.config.request_timeout_s,
            trust_env=False,
        ) as client:
            return sum(await asyncio.gather(*(ask(client, one) for one in requests)))

    return _rate(lambda: asyncio.run(all_at_once()))


def regent_path(workers: WorkersPath, requests: Sequence[Request]) -> float:
    """Completion tokens a second of the same requests through Regent's Ray workers."""
    prompts = [one.prompt for one in requests]
    return _rate(lambda: workers.send(prompts, requests[0].max_tokens))


def _rate(work: Callable[[], int]) -> float:
    began = time.perf_counter()
    return work() / (time.perf_counter() - began)


def compare(
    engine: Engine,
    workers: WorkersPath,
    kind: str,
    n: int,
    pairs: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Paired runs of one load: tokens a second of both paths and the median ratio."""
    bare, regent = [], []
    for pair in range(pairs):
        requests = make_requests(kind, n, rng)
        fresh = make_requests(kind, n, rng)
        # Each goes first in every other pair, and no prompt is sent twice: neither warms the other.
        if pair % 2:
            regent.append(regent_path(workers, requests))
            bare.append(bare_path(engine, fresh))
        else:
            bare.append(bare_path(engine, requests))
            regent.append(regent_path(workers, fresh))
    ratios = [ours / theirs for ours, theirs in zip(regent, bare, strict=True)]
    return {
        "requests": n,
        "max_tokens": requests[0].max_tokens,
        "bare_tokens_per_s": [round(value, 1) for value in bare],
        "regent_tokens_per_s": [round(value, 1) for value in regent],
        "ratio_median": round(statistics.median(ratios), 3),
        "ratios": [round(value, 3) for value in ratios],
    }


def measure(quick: bool, seed: int) -> dict[str, Any]:
    """The benchmark's one object: seed, figures and bars."""
    rng = np.random.default_rng(seed)
    folder = smollm2_folder()
    n, pairs = (48, 2) if quick else (128, 5)
    with tempfile.TemporaryDirectory() as temporary:
        began = time.perf_counter()
        with Engine.start(folder, EngineConfig(), Path(temporary) / "logs") as engine:
            figures: dict[str, Any] = {
                "backend": engine.backend,
                "reason": engine.reason,
                "start_s": round(time.perf_counter() - began, 1),
            }
            bare_path(engine, make_requests("decode", 16, rng))
            workers = WorkersPath(engine, Path(temporary) / "run")
            try:
                regent_path(workers, make_requests("decode", 16, rng))
                for kind in ("decode", "prefill"):
                    figures[kind] = compare(engine, workers, kind, n, pairs, rng)
            finally:
                workers.close()
            figures["switch_s"] = _switch_s(engine, folder, Path(temporary) / "other", rng)
    bars = {
        f"Regent reaches {BAR:.0%} of a bare client's tokens a second ({kind})": bar(
            figures[kind]["ratio_median"], BAR, figures[kind]["ratio_median"] >= BAR
        )
        for kind in ("decode", "prefill")
    }
    return {"seed": seed, "figures": figures, "bars": bars}


def _switch_s(engine: Engine, folder: Path, other: Path, rng: np.random.Generator) -> list[float]:
    """Seconds of a switch to other weights and of the one back, fingerprints included."""
    perturb(folder, other, rng)
    taken = []
    for target in (other, folder):
        began = time.perf_counter()
        engine.switch(target)
        taken.append(round(time.perf_counter() - began, 2))
    return taken


def perturb(folder: Path, other: Path, rng: np.random.Generator) -> None:
    """A copy of the checkpoint whose projection matrices carry 2 % of Gaussian noise."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, other)
    weights = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    for name, tensor in weights.items():
        if name.endswith("_proj.weight"):
            noise = torch.randn(tensor.shape, generator=generator) * tensor.float().std()
            weights[name] = (tensor.float() + 0.02 * noise).to(tensor.dtype)
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 where every bar holds, 1 where one does not, 2 where nothing could be run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer requests; about a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    try:
        result = measure(chosen.quick, chosen.seed)
    except CannotRun as error:
        print(error, file=sys.stderr)
        return 2
    return finish("throughput", result, chosen.json, whole=not chosen.quick)


if __name__ == "__main__":
    sys.exit(main())
