"""Keeps the training libraries' bars, advice and telemetry off the screen and off the network.

Covers what Regent's own loading and training would print or send; a caller's settings come back
when the block ends.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_LOUD = ("transformers", "trl", "peft", "accelerate", "datasets", "sentence_transformers")


def _no_bar(items: Iterable[Any], **_: object) -> Iterable[Any]:
    return items


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Within the block the Hugging Face stack shows no bars and logs only errors."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from transformers import modeling_gguf_pytorch_utils
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    levels = {name: logging.getLogger(name).level for name in _LOUD}
    transformers_logging.disable_progress_bar()
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)
    gguf_bar = modeling_gguf_pytorch_utils.tqdm
    # This one module takes tqdm itself, past the library's own switch.
    modeling_gguf_pytorch_utils.tqdm = _no_bar
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        modeling_gguf_pytorch_utils.tqdm = gguf_bar
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
