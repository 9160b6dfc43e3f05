"""The digest that names a checkpoint: a Merkle root over the files that decide what it says.

Covers weights, configuration, tokenizer, chat template, generation settings, remote code and a
nested adapter. Does not cover read-me files, logs or Regent's own marker.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from regent.errors import CannotRun
from regent.records import merkle_root

MARKER = ".regent.json"
_SUFFIXES = frozenset({".safetensors", ".bin", ".json", ".jinja", ".model", ".txt", ".py"})


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hex, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checkpoint_files(folder: Path) -> list[Path]:
    """The files that `checkpoint_digest` covers, sorted by their path relative to `folder`."""
    found = (
        path
        for path in folder.rglob("*")
        if path.suffix in _SUFFIXES and path.name != MARKER and path.is_file()
    )
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def checkpoint_digest(folder: Path) -> str:
    """Merkle root over `relative-path:sha256` of every file that matters, in sorted order.

    Any flipped byte, renamed, missing or added file changes it; where the folder lies does not.
    Raises CannotRun where the folder holds no weights.
    """
    files = checkpoint_files(folder) if folder.is_dir() else []
    if not any(path.suffix in {".safetensors", ".bin"} for path in files):
        raise CannotRun(f"{folder}: no weights there; give a folder with *.safetensors")
    return merkle_root(
        [f"{path.relative_to(folder).as_posix()}:{file_digest(path)}" for path in files]
    )


class RememberedDigests:
    """`checkpoint_digest`, computed again only where a file's size, time or inode changed.

    For asking the same folder many times in one process. Does not see bytes that were changed with
    size and time put back: whoever guards against that calls `checkpoint_digest`.
    """

    def __init__(self) -> None:
        self._known: dict[Path, tuple[object, str]] = {}

    def of(self, folder: Path) -> str:
        """The digest of the checkpoint in `folder`. Raises as `checkpoint_digest` does."""
        files = checkpoint_files(folder) if folder.is_dir() else []
        told = [(path, path.stat()) for path in files]
        now = [(path, s.st_size, s.st_mtime_ns, s.st_ino) for path, s in told]
        known = self._known.get(folder)
        if known is None or known[0] != now:
            known = self._known[folder] = (now, checkpoint_digest(folder))
        return known[1]


def altered(folder: Path, digest: str) -> bool:
    """Whether the checkpoint in `folder` is no longer the one that `digest` names (or is gone)."""
    try:
        return checkpoint_digest(folder) != digest
    except (CannotRun, OSError):
        return True
