"""The real embedded model and a real engine, each made once a session; and scripted embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from regent.config import EngineConfig
from regent.models.embedded import smollm2_folder as unpacked_smollm2
from regent.models.embedder import shared_embedder
from regent.models.engine import Engine
from tests.scripted_speakers import embed

# Cores are shared with engines: a slow moment is no property that fails.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """SmolLM2-135M-Instruct, from the cache that a run uses too."""
    return unpacked_smollm2()


@pytest.fixture(scope="session")
def engine(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A running engine on SmolLM2, stopped when the session ends."""
    started = Engine.start(smollm2_folder, EngineConfig(), tmp_path_factory.mktemp("engine"))
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def scripted_embeddings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands take tests/scripted_speakers.py's embeddings for the real model's."""

    class Scripted:
        def __init__(self, **_: object) -> None:
            self.embed = embed

    shared_embedder.cache_clear()  # another test's, real or scripted, may be there
    monkeypatch.setattr("regent.models.embedder.Embedder", Scripted)
    yield
    shared_embedder.cache_clear()
