"""Content-addressed bytes: each blob is named by its SHA-256 and written once.

A local folder by default, any fsspec URL otherwise. Reading checks the digest, so a flipped byte
is an error and never data. Does not cover: deletion (nothing is deleted) and access control.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TypeVar

import fsspec

from regent.errors import CannotRun
from regent.records import Record, digest

R = TypeVar("R", bound=Record)


class Corrupt(CannotRun):
    """Stored bytes no longer match their name."""


class Store:
    """Blobs under `url`, laid out as `ab/abcdef…`."""

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        self.fs, self.root = fsspec.core.url_to_fs(self.url)
        try:
            self.fs.makedirs(self.root, exist_ok=True)
        except OSError as error:
            raise CannotRun(
                f"store {self.url}: {error.strerror or error}; choose a folder that can be written"
            ) from error

    def path(self, name: str) -> str:
        """Where the blob called `name` lies (or would)."""
        return f"{self.root}/{name[:2]}/{name}"

    def has(self, name: str) -> bool:
        return bool(self.fs.exists(self.path(name)))

    def put(self, data: bytes) -> str:
        """Keep `data`; returns its name. Writing again what is there is a no-op."""
        name = digest(data)
        if self.has(name):
            return name
        target = self.path(name)
        partial = f"{target}.{os.getpid()}.{uuid.uuid4().hex[:8]}.part"
        try:
            self.fs.makedirs(os.path.dirname(target), exist_ok=True)
            with self.fs.open(partial, "wb") as file:
                file.write(data)
            self.fs.mv(partial, target)
        except OSError as error:
            raise CannotRun(
                f"store {self.url}: {error.strerror or error}; "
                "free some space, then `regent resume`"
            ) from error
        return name

    def get(self, name: str) -> bytes:
        """The bytes called `name`. Raises CannotRun if absent, Corrupt if they were altered."""
        try:
            with self.fs.open(self.path(name), "rb") as file:
                data: bytes = file.read()
        except FileNotFoundError as error:
            raise CannotRun(f"store {self.url}: nothing is called {name[:12]}…") from error
        if digest(data) != name:
            raise Corrupt(
                f"store {self.url}: the bytes of {name[:12]}… were altered; "
                "restore them from a copy"
            )
        return data

    def put_record(self, record: Record) -> str:
        """Keep a record under its id."""
        return self.put(record.canonical())

    def get_record(self, kind: type[R], name: str) -> R:
        """The record of class `kind` called `name`."""
        return kind.from_canonical(self.get(name))
