"""The engine serves what it was told to, to holders of its key, and never outlives its driver.

Real vLLM on real weights, one server for most; the guard and the complaints are tried on their own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.throughput import perturb
from regent.config import EngineConfig
from regent.errors import CannotRun
from regent.models.child_server import free_port, last_words
from regent.models.engine import Engine
from regent.models.engine_guard import group_alive
from regent.models.layout import layout
from regent.models.speaker import Sampling
from regent.records import Message
from supervisor.diffing.approvals import approve, statements

ROOT = Path(__file__).resolve().parents[1]
HELLO = [[Message(role="user", content="What is 2 + 2?")]]


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture(scope="module")
def other_folder(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other") / "model"
    perturb(smollm2_folder, folder, np.random.default_rng(0))
    return folder


def test_a_port_in_use_is_one_line_that_names_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotRun, match=rf"^port {port}: .*free it.*$") as caught:
            free_port(port)
    assert "\n" not in str(caught.value)


def test_the_first_error_of_a_log_is_its_last_word(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old ValueError: no\n")
    old = log.stat().st_size
    with log.open("a") as more:
        more.write("(Worker pid=7) \x1b[31mMemoryError: too big\x1b[0m\nRuntimeError: see above\n")
    assert last_words(log, old) == "MemoryError: too big"
    assert last_words(tmp_path / "none") == "it left no log"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_what_the_guard_runs_ends_with_the_driver(end: signal.Signals, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = (
        "import os, subprocess, sys, time\n"
        "guard = [sys.executable, '-m', 'regent.models.engine_guard', str(os.getpid())]\n"
        f"command = [*guard, {str(pid_file)!r}, '--', 'sh', '-c', 'sleep 300 & sleep 300']\n"
        "subprocess.Popen(command, start_new_session=True)\n"
        "time.sleep(300)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    try:
        assert wait_until(lambda: pid_file.exists() and bool(pid_file.read_text()), 20)
        group = int(pid_file.read_text())
        assert group_alive(group)
    finally:
        driver.send_signal(end)
        driver.wait()
    assert wait_until(lambda: not group_alive(group), 10)


@pytest.mark.parametrize("file", ["config.json", "chat_template.jinja", "tokenizer.json"])
def test_weights_change_places_only_where_the_rest_is_equal(file: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"rope_theta": 1, "transformers_version": 1}')
        (tmp_path / name / "tokenizer.json").write_text('{"model": {"a": 1}, "truncation": null}')
        (tmp_path / name / "chat_template.jinja").write_text("1")
    two = tmp_path / "two"
    (two / "config.json").write_text('{"rope_theta": 1, "transformers_version": 2}')
    assert layout(tmp_path / "one") == layout(two)
    (two / file).write_text((two / file).read_text().replace("1", "3"))
    assert layout(tmp_path / "one") != layout(two)


def test_a_folder_without_weights_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="no weights"):
        Engine.start(tmp_path, EngineConfig(), tmp_path / "logs")
    assert not (tmp_path / "logs" / "engine.log").exists()


@pytest.mark.real
def test_the_engine_answers_through_its_speaker_and_serves_by_vllm(engine: Engine) -> None:
    assert (engine.backend, engine.reason) == ("vllm", "")
    [reply] = engine.speaker().sample(HELLO, Sampling(max_tokens=8, temperature=0.0))
    assert reply.ok, reply.error
    assert reply.text
    assert reply.completion_tokens == 8


@pytest.mark.real
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/health"), ("GET", "/v1/models"), ("POST", "/collective_rpc"), ("POST", "/pause")],
)
def test_no_route_answers_without_the_key(engine: Engine, method: str, path: str) -> None:
    url = engine.base_url.removesuffix("/v1") + path
    body = {"method": "reload_weights"}
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        answer = httpx.request(method, url, headers=headers, json=body, trust_env=False)
        assert answer.status_code == 401


@pytest.mark.real
def test_a_switch_takes_and_the_switch_back_says_what_was_said_before(
    engine: Engine, smollm2_folder: Path, other_folder: Path
) -> None:
    first, server = engine.fingerprint(), engine.pid
    engine.switch(other_folder)
    assert engine.fingerprint() != first
    engine.verify_switch(previous=smollm2_folder)
    engine.switch(smollm2_folder)
    assert engine.fingerprint() == first
    assert engine.pid == server  # in place: no restart
    assert engine.folder == smollm2_folder.resolve()


@pytest.mark.real
def test_a_switch_that_did_not_take_is_refused(
    engine: Engine, smollm2_folder: Path, other_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = engine.fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_load_current", lambda: None)
        patch.setattr(engine, "_restart", lambda: None)
        with pytest.raises(
            CannotRun, match=r"did not take|otherwise before|still serves|not serve"
        ):
            engine.switch(other_folder)
    assert engine.folder == smollm2_folder.resolve()
    assert engine.fingerprint() == first


@pytest.mark.real
def test_a_killed_server_is_started_again_with_the_same_weights_and_address(
    engine: Engine,
) -> None:
    first, address, dead = engine.fingerprint(), engine.base_url, engine.pid
    os.kill(dead, signal.SIGKILL)
    assert wait_until(lambda: not engine.alive(), 20)
    engine.ensure()
    assert engine.alive()
    assert engine.pid != dead
    assert (engine.fingerprint(), engine.base_url) == (first, address)


@pytest.mark.real
def test_a_driver_killed_with_sigkill_leaves_no_server(
    smollm2_folder: Path, tmp_path: Path
) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from regent.config import EngineConfig\nfrom regent.models.engine import Engine\n"
        "Engine.start(Path(sys.argv[1]), EngineConfig(), Path(sys.argv[2]))\n"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", script, str(smollm2_folder), str(tmp_path)], cwd=ROOT
    )
    try:
        assert wait_until(lambda: any(tmp_path.glob("engine-*.pid")), 30)
        time.sleep(8)  # let the server have its own children
        group = int(next(iter(tmp_path.glob("engine-*.pid"))).read_text())
        assert group_alive(group)
    finally:
        driver.kill()
        driver.wait()
    assert wait_until(lambda: not group_alive(group), 10)


@pytest.mark.parametrize(("port", "starts"), [(0, 2), (12_345, 1)])
def test_a_free_port_that_is_taken_meanwhile_is_changed_and_a_named_one_is_said(
    port: int, starts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    ports: list[str] = []

    def start(engine: Engine) -> None:
        ports.append(engine.base_url)
        if len(ports) == 1:
            raise CannotRun("the server ended ([Errno 98] address already in use)")

    monkeypatch.setattr(Engine, "_start_some_backend", start)
    monkeypatch.setattr(Engine, "_check_fingerprint", lambda engine: None)
    config = EngineConfig(port=port)
    if port:
        with pytest.raises(CannotRun, match="address already in use"):
            Engine.start(tmp_path, config, tmp_path / "logs")
    else:
        assert Engine.start(tmp_path, config, tmp_path / "logs").base_url == ports[1]
    assert len(ports) == starts


@pytest.mark.real
def test_where_vllm_cannot_start_transformers_serves_and_the_reason_is_said(
    smollm2_folder: Path, other_folder: Path, tmp_path: Path
) -> None:
    # A window longer than the model's own makes vLLM refuse; Transformers does not mind.
    config = EngineConfig(max_model_len=10_000_000)
    with pytest.raises(CannotRun, match=r"^(?!.*\n).*max_model_len.*'auto'$"):
        Engine.start(smollm2_folder, config.model_copy(update={"backend": "vllm"}), tmp_path)
    with Engine.start(smollm2_folder, config, tmp_path) as fallback:
        assert fallback.backend == "transformers"
        assert "max_model_len" in fallback.reason
        first = fallback.fingerprint()
        schema = {"type": "object", "properties": {"a": {"enum": [4]}}, "required": ["a"]}
        how = Sampling(max_tokens=12, temperature=1.0, json_schema=schema)
        replies = fallback.speaker().sample(HELLO * 5, how)
        assert all(reply.ok and '"a"' in reply.text for reply in replies)
        fallback.switch(other_folder)
        assert fallback.fingerprint() != first
        fallback.switch(smollm2_folder)
    assert not fallback.alive()


@pytest.mark.real
def test_a_reply_is_held_to_one_of_two_words(engine: Engine) -> None:
    asked = statements()[:4]
    found = approve(engine.speaker(), asked, "You are a lighthouse keeper.", ("itself",))
    assert found.missing == 0
    assert set(np.unique(found.by_order)) <= {0.0, 1.0}
