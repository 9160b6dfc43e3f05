"""What must be equal in two checkpoints for one's weights to take the other's place in a server.

A server that reads weights in place keeps its configuration, tokenizer and chat template, and vLLM
only warns of tensors that the new files lack. Does not read the weights themselves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from regent.records import canonical_json, digest

# Written by whoever saved last; no server acts on them.
_VOLATILE = frozenset(
    {"transformers_version", "_name_or_path", "dtype", "torch_dtype", "use_cache"}
)


def layout(folder: Path) -> str:
    """Digest of tensor names and shapes, configuration, vocabulary and chat template."""
    shapes = {
        name: tensor["shape"]
        for path in folder.glob("*.safetensors")
        for name, tensor in _header(path).items()
        if name != "__metadata__"
    }
    config = {k: v for k, v in _json(folder / "config.json").items() if k not in _VOLATILE}
    tokenizer = _json(folder / "tokenizer.json")
    vocabulary = {name: tokenizer.get(name) for name in ("model", "added_tokens")}
    template = folder / "chat_template.jinja"
    told = template.read_text(encoding="utf-8") if template.is_file() else ""
    parts = {"shapes": shapes, "config": config, "vocabulary": vocabulary, "template": told}
    return digest(canonical_json(parts))


def _header(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header: dict[str, Any] = json.loads(stream.read(length))
    return header


def _json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return value
