"""Texts embedded once, for processes that work two at a time, each with one thread.

`keep` embeds and writes; `workers` starts the processes; there `load` reads and `embed` looks up.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regent.models.embedder import Embedder
from supervisor.diffing.features import split_sentences

_rows: dict[str, NDArray[np.float32]] = {}
#: In a worker: what `load` read of the benchmark's own.
prepared: dict[str, Any] = {}


def keep(texts: Iterable[str], folder: Path) -> Path:
    """A file in `folder` with the embedding of each text and sentence, as the diff asks for it."""
    path = folder / "rows.npz"
    whole = set(texts)
    distinct = sorted(
        {text if text.strip() else "(empty)" for text in whole}
        | {sentence for text in whole for sentence in split_sentences(text)}
    )
    np.savez(path, texts=np.array(distinct), rows=Embedder().embed(distinct))
    return path


def workers(initializer: Callable[..., None], *given: Any) -> ProcessPoolExecutor:
    """Two fresh processes (one on a single core), each begun by `initializer(*given)`."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(min(2, os.cpu_count() or 1), context, initializer, given)


def load(path: Path, more: Path | None = None) -> None:
    """In a worker: one thread from here on, and the embeddings that `keep` wrote; `prepared` has
    the JSON in `more`.
    """
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    held = np.load(path, allow_pickle=False)
    _rows.update(zip(held["texts"].tolist(), held["rows"], strict=True))
    if more is not None:
        prepared.update(json.loads(more.read_text("utf-8")))


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """In a worker: the kept embeddings, in order: [n, 384]."""
    return np.stack([_rows[text] for text in texts])
