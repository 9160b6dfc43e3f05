"""The run's engine: started when first needed, and always on the checkpoint that was asked for.

- nothing is started by making or stopping it;
- a fresh process, whose engine knows the origin only, serves the champion before it gives its
  address or speaks (a resumed experiment must not ask the origin in the champion's name);
- a dead engine is brought back before it is asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from agents.serving import Serving
from regent.models.engine import Engine
from regent.records import Checkpoint

ORIGIN = Checkpoint(round=0, name="origin", digest="0")
CHAMPION = Checkpoint(round=1, name="r1", digest="1")


class Scripted:
    """An engine's verbs, written down in order."""

    base_url, model_name, api_key, backend, reason = "http://127.0.0.1:1/v1", "m", "k", "vllm", ""

    def __init__(self, done: list[str]) -> None:
        self.done = done

    def ensure(self) -> None:
        self.done.append("ensure")

    def switch(self, folder: Path) -> None:
        self.done.append(f"switch {folder.name}")

    def alive(self) -> bool:
        return "stop" not in self.done

    def speaker(self) -> Any:
        self.done.append("speaker")

    def stop(self) -> None:
        self.done.append("stop")


def serving(done: list[str], notes: list[str]) -> Serving:
    def start() -> Engine:
        done.append("start")
        return cast(Engine, Scripted(done))

    return Serving(Path("checkpoints"), start, notes.append, 30.0)


def test_nothing_is_started_before_it_is_needed() -> None:
    done: list[str] = []
    serving(done, []).stop()
    assert done == []


def test_a_fresh_process_serves_the_champion_before_it_gives_its_address() -> None:
    done: list[str] = []
    address = serving(done, []).address(CHAMPION)
    assert done == ["start", "ensure", "switch r1"]
    assert (address.name, address.model, address.timeout_s) == (CHAMPION.id, "m", 30.0)


def test_one_engine_serves_one_checkpoint_after_the_other() -> None:
    done: list[str] = []
    notes: list[str] = []
    one = serving(done, notes)
    one.speaker(ORIGIN)
    one.speaker(CHAMPION)
    one.stop()
    expected = ["start", "ensure", "switch origin", "speaker"]
    assert done == [*expected, "ensure", "switch r1", "speaker", "stop"]
    assert notes == ["starting the engine (half a minute)", "vllm serves after 0 s"]


def test_it_is_alive_from_its_first_use_to_its_end() -> None:
    one = serving([], [])
    assert not one.alive()
    one.speaker(ORIGIN)
    assert one.alive()
    one.stop()
    assert not one.alive()
