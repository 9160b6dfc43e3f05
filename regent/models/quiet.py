"""Keeps the training libraries' bars, advice and telemetry off the screen and off the network.

Covers what Regent's own loading and training would print or send; a caller's log levels and
bars come back when the block ends.
"""

from __future__ import annotations

import logging
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
    from huggingface_hub import constants
    from transformers import modeling_gguf_pytorch_utils
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    levels = {name: logging.getLogger(name).level for name in _LOUD}
    transformers_logging.disable_progress_bar()
    constants.HF_HUB_DISABLE_TELEMETRY = True  # for good: a trainer reports home from a thread
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
