"""One string names a model: which kind it is, and a Speaker or the folder of its weights.

    smollm2 · a local folder · a hub id · NAME@http://host/v1 · any of these +ADAPTER_FOLDER

Does not cover starting an engine: see `engine`.
"""

from __future__ import annotations

import difflib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from regent.errors import CannotRun
from regent.models.embedded import cache_folder, smollm2_folder
from regent.models.speaker import Speaker
from regent.models.weights import checkpoint_digest

EMBEDDED = "smollm2"
_ENDPOINT = re.compile(r"(?P<model>.+)@(?P<url>https?://\S+)")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class ModelName:
    """A model name taken apart: a server's (`url` set) or one with weights, and its adapter."""

    base: str
    url: str = ""
    adapter: Path | None = None


def parse(name: str) -> ModelName:
    """Take a model name apart. Raises CannotRun on an empty name or a missing adapter."""
    if not name.strip():
        raise CannotRun(f"the model name is empty; give '{EMBEDDED}', a folder or NAME@http://…/v1")
    base, adapter = name, None
    if "+" in name and not Path(name).expanduser().is_dir():
        base, _, last = name.rpartition("+")
        adapter = Path(last).expanduser()
        if not (adapter / "adapter_config.json").is_file():
            raise CannotRun(
                f"'{name}': {adapter} holds no adapter_config.json; give a folder saved by PEFT"
            )
    served = _ENDPOINT.fullmatch(base)
    if served:
        return ModelName(served["model"], served["url"].rstrip("/"), adapter)
    return ModelName(base, adapter=adapter)


def resolve(name: str, *, api_key: str | None = None) -> Speaker:
    """The Speaker that `name` names; what it cannot do is missing from its `can`.

    Loads weights, or asks the server which models it has. Raises CannotRun in one line.
    """
    parts = parse(name)
    if parts.url:
        from regent.models.endpoint import Endpoint, served_models

        known = served_models(parts.url, api_key or "")
        if known and parts.base not in known:
            raise CannotRun(f"{parts.url} serves no '{parts.base}'; {_nearest(parts.base, known)}")
        endpoint = Endpoint(parts.url, parts.base, api_key or "")
        if parts.adapter is not None:
            endpoint.model = endpoint.load_adapter(parts.adapter)
            endpoint.name = name
        return endpoint
    from regent.models.local import LocalModel

    return LocalModel(_base_folder(parts.base), parts.adapter, name=name)


def weights_folder(name: str) -> Path:
    """The folder of the weights that `name` names, an adapter merged in (kept in the cache).

    Raises CannotRun where the name does not resolve or only a server has the weights.
    """
    parts = parse(name)
    if parts.url:
        raise CannotRun(f"'{name}' is a server; this needs weights: give a folder or '{EMBEDDED}'")
    base = _base_folder(parts.base)
    return base if parts.adapter is None else _merged(base, parts.adapter)


def _base_folder(base: str) -> Path:
    if base == EMBEDDED:
        return smollm2_folder()
    folder = Path(base).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise CannotRun(f"{folder} holds no config.json; give a folder saved by Transformers")
        return folder
    if folder.is_absolute() or base.startswith((".", "~")):
        raise CannotRun(f"there is no folder {folder}; {_nearest(base, _neighbours(folder))}")
    return _hub_folder(base)


def _hub_folder(base: str) -> Path:
    from huggingface_hub import snapshot_download

    advice = _nearest(base, [EMBEDDED, *_neighbours(Path(base))])
    if not _HUB_ID.fullmatch(base):
        raise CannotRun(f"no model is called '{base}'; {advice}")
    patterns = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
    for offline in (True, False):
        try:
            found = Path(
                snapshot_download(
                    base, allow_patterns=patterns, local_files_only=offline, etag_timeout=5
                )
            )
        except Exception as error:  # the hub's client, httpx and the disk each raise their own
            reason = "the hub cannot be reached" if _unreachable(error) else "it has none such"
            continue
        if (found / "config.json").is_file() and any(found.glob("*.safetensors")):
            return found
        reason = "it has no safetensors weights"
    raise CannotRun(
        f"'{base}' is no local folder and the hub does not give it ({reason}); {advice}"
    )


def _unreachable(error: Exception) -> bool:
    """Whether the hub's client never got an answer: `LocalEntryNotFoundError` says it offline."""
    return type(error).__name__ in {"LocalEntryNotFoundError", "OfflineModeIsEnabled"} or (
        isinstance(error, OSError) and not hasattr(error, "response")
    )


def _merged(base: Path, adapter: Path) -> Path:
    """Base and adapter as one checkpoint, written once under a name made of both digests."""
    from regent.models.local import load_tokenizer, load_weights

    key = f"merged-{checkpoint_digest(base)[:12]}-{checkpoint_digest(adapter)[:12]}"
    folder = cache_folder() / key
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".merging-") as temporary:
            fresh = Path(temporary) / "model"
            load_weights(base, adapter).save_pretrained(fresh)
            load_tokenizer(base).save_pretrained(fresh)
            if not folder.is_dir():
                fresh.rename(folder)
    except OSError as error:
        raise CannotRun(
            f"{folder}: {error.strerror or error}; set REGENT_CACHE to a folder with space"
        ) from error
    return folder


def _neighbours(folder: Path) -> list[str]:
    try:
        return [str(path) for path in folder.parent.iterdir() if path.is_dir()]
    except OSError:
        return []


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"'{EMBEDDED}' always works"
