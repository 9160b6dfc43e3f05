"""The engine: a child server that speaks OpenAI's protocol with the champion's weights.

vLLM where it is installed and starts, else Transformers (`backend` and `reason` say which and why).
The server listens on the loopback interface only, demands a fresh key on every route, is restarted
by `ensure` when it died, and ends with the driver however that ends (`engine_guard`).
On CPU a new checkpoint is a whole merged folder, read in place in about a second; on a GPU an
adapter's folder is served hot beside its base. After every switch the fingerprint of fixed greedy
answers is held to what is known (`fingerprint`).
Does not cover several servers or several models at once.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import secrets
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from regent.config import EngineConfig
from regent.errors import CannotRun
from regent.models.child_server import ChildServer, free_port, last_words
from regent.models.endpoint import Endpoint
from regent.models.fingerprint import (
    Fingerprint,
    take_fingerprint,
    teacher_error,
    teacher_logprobs,
)
from regent.models.layout import layout
from regent.models.weights import RememberedDigests

MODEL_NAME = "champion"
MAX_NUM_SEQS = 128
MAX_RESTARTS = 3
FEW_CORES = 4
# A checkpoint's own sampling defaults must not colour what a request leaves unsaid.
NEUTRAL_SAMPLING = '{"temperature": 1.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}'
TEACHER_TOLERANCE_NATS = 0.15

_PORTS = 3  # free ones that are tried


class Engine:
    """A running server. `Engine.start` makes one; `stop`, or leaving the `with` block, ends it."""

    def __init__(self, folder: Path, config: EngineConfig, log_folder: Path) -> None:
        """Not for callers: see `start`."""
        self.folder = folder.resolve()
        self._digests = RememberedDigests()
        self.digest = self._digests.of(self.folder)
        self.config = config
        self.api_key = secrets.token_urlsafe(32)
        self.model_name = MODEL_NAME
        self.backend = "vllm"
        self.reason = ""
        self.restarts = 0
        self._base = self.folder
        self._seen: dict[str, Fingerprint] = {}
        self._layouts: dict[str, str] = {}  # by digest
        self._switches = 0
        log_folder.mkdir(parents=True, exist_ok=True)
        port = free_port(config.port)
        self._server = ChildServer(
            port, self.api_key, log_folder.resolve(), config.request_timeout_s
        )
        self.base_url = f"http://127.0.0.1:{port}/v1"

    @classmethod
    def start(cls, folder: Path, config: EngineConfig, log_folder: Path) -> Engine:
        """Serve the checkpoint in `folder`; the server's log goes to `log_folder`/engine.log.

        Raises CannotRun, with one line, where the folder has no weights, the port is in use, or the
        asked backend cannot start. Under "auto" Transformers takes over from vLLM, and `reason`
        says why.
        """
        if _holds_adapter(folder):
            raise CannotRun(f"{folder} is an adapter; start with its base, then switch to it")
        attempts = 0
        while True:
            attempts += 1
            engine = cls(folder, config, log_folder)
            try:
                engine._start_some_backend()
                engine._check_fingerprint()
                return engine
            except BaseException as error:
                engine.stop()
                # A port that was free may be taken while a server starts, half a minute later.
                taken = isinstance(error, CannotRun) and "address already in use" in str(error)
                if config.port or not taken or attempts == _PORTS:
                    raise

    @property
    def pid(self) -> int:
        """The server's process id and process group. Raises CannotRun where it is not running."""
        return self._server.pid

    def speaker(self) -> Endpoint:
        """The served model as a speaker. Ask anew after a switch: on a GPU adapters bear names."""
        return Endpoint(
            self.base_url,
            self.model_name,
            api_key=self.api_key,
            timeout_s=self.config.request_timeout_s,
            max_concurrency=MAX_NUM_SEQS,
        )

    def fingerprint(self) -> tuple[str, ...]:
        """The served model's greedy replies to the fixed prompts. Best asked of an idle server."""
        return self._take().replies

    def alive(self) -> bool:
        """Whether the server's process runs and it answers that it is well (waits up to 15 s)."""
        return self._server.alive()

    def ensure(self) -> None:
        """Restart the server, on the same address and with the same weights, if it is not alive.

        Raises CannotRun where it died more than MAX_RESTARTS times or cannot start, or where the
        same checkpoint says something else than before.
        """
        if self.alive():
            return
        if self.restarts >= MAX_RESTARTS:
            log = self._server.log_path
            raise CannotRun(
                f"the engine died {self.restarts + 1} times ({last_words(log)}); see {log}"
            )
        self.restarts += 1
        self._restart()
        self._check_fingerprint()

    def switch(self, folder: Path) -> None:
        """Serve the checkpoint in `folder` instead; requests in flight end first, later ones wait.

        Raises CannotRun where the folder has no weights or the switch shows not to have taken: a
        checkpoint seen before must say what it said then, and one with other bytes whose
        fingerprint is the last one's to the last digit must stand `verify_switch`. Then the
        previous checkpoint is served again, by a fresh server.
        """
        folder = folder.resolve()
        digest = self._digests.of(folder)
        if digest == self.digest:
            self.folder = folder
            return
        if _holds_adapter(folder) and (self.backend != "vllm" or not gpu_ready()):
            raise CannotRun(f"{folder} is an adapter; without a GPU serve merged weights")
        previous, previous_digest = self.folder, self.digest
        before = self._seen[previous_digest]
        self.folder, self.digest = folder, digest
        self._switches += 1
        try:
            self._load_or_restart(previous)
            if self._check_fingerprint() == before:
                self.verify_switch(previous)
        except CannotRun:
            self.folder, self.digest = previous, previous_digest
            self._restart()
            raise

    def verify_switch(self, previous: Path | None = None) -> float:
        """Compare what is served with what Transformers computes from the current folder.

        Returns the mean difference in nats a token; costs a model's loading (a few seconds). With
        `previous`, the served model must not be nearer to those weights than to the current ones.
        Raises CannotRun where the served weights are not the current folder's.
        """
        served = self._take()
        error = teacher_error(served, teacher_logprobs(self.folder, served.replies))
        if not error <= TEACHER_TOLERANCE_NATS:  # so that NaN is refused as well
            raise CannotRun(
                f"the engine does not serve {self.folder}: its log-probabilities are {error:.3f} "
                "nats a token from Transformers'; resume the run with a fresh engine"
            )
        if previous and teacher_error(served, teacher_logprobs(previous, served.replies)) < error:
            raise CannotRun(
                f"the engine still serves {previous} instead of {self.folder}; "
                "resume the run with a fresh engine"
            )
        return error

    def stop(self) -> None:
        """End the server and all its processes. Idempotent; does nothing in a forked child."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start_some_backend(self) -> None:
        asked = self.config.backend
        if asked != "transformers":
            try:
                self._restart()
                return
            except CannotRun as error:
                if asked == "vllm":
                    raise CannotRun(
                        f"{error}; mend that or set engine.backend to 'auto'"
                    ) from error
                self.reason = f"Transformers serves, more slowly, because {error}"
        self.backend = "transformers"
        self._restart()

    def _restart(self) -> None:
        """A fresh server with the current folder's weights. Raises CannotRun."""
        if self.backend == "vllm" and importlib.util.find_spec("vllm") is None:
            raise CannotRun("vLLM is not installed here")
        # An adapter is served over the folder that the engine held before it.
        self._base = self._base if self._is_adapter() else self.folder
        command = self._vllm_command() if self.backend == "vllm" else self._transformers_command()
        self._server.start(command, self._environment(), self.config.start_timeout_s)
        if self._is_adapter():
            self._load_current()

    def _load_or_restart(self, previous: Path) -> None:
        if not self._is_adapter() and self._layout(self.folder) != self._layout(previous):
            self._restart()
            return
        try:
            self._load_current()
        except httpx.HTTPError:
            # Half of the new weights may be in place: only a fresh server is sure.
            self._restart()

    def _layout(self, folder: Path) -> str:
        digest = self._digests.of(folder)
        if digest not in self._layouts:
            self._layouts[digest] = layout(folder)
        return self._layouts[digest]

    def _vllm_command(self) -> list[str]:
        options: dict[str, object] = {
            "model": self._base,
            "served-model-name": MODEL_NAME,
            "host": "127.0.0.1",
            "port": self._server.port,
            "middleware": "regent.models.engine_key.DemandKey",
            "dtype": "bfloat16",
            "max-model-len": self.config.max_model_len,
            "max-num-seqs": MAX_NUM_SEQS,
            "override-generation-config": NEUTRAL_SAMPLING,
        }
        command = [sys.executable, "-m", "regent.models.vllm_server"]
        command += [word for key, value in options.items() for word in (f"--{key}", str(value))]
        command += ["--enable-prefix-caching", "--disable-uvicorn-access-log"]
        if gpu_ready():
            return [*command, "--enable-lora", "--max-lora-rank", "64"]
        # On CPU a LoRA slot alone costs a third of the speed, and an active adapter most of it.
        return [*command, "--enforce-eager"]

    def _transformers_command(self) -> list[str]:
        module = "regent.models.transformers_server"
        return [sys.executable, "-m", module, str(self._base), str(self._server.port)]

    def _environment(self) -> dict[str, str]:
        if self.backend == "transformers":
            # On cores shared with others, threads that spin at barriers stall for tens of seconds.
            return {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        return {
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_SERVER_DEV_MODE": "1",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1" if gpu_ready() else "0",
            "VLLM_CPU_KVCACHE_SPACE": str(self.config.kv_cache_gib),
            "VLLM_CPU_OMP_THREADS_BIND": _cores(),
        }

    def _is_adapter(self) -> bool:
        return _holds_adapter(self.folder)

    def _load_current(self) -> None:
        """Put the current folder's weights into the running server. Raises httpx.HTTPError."""
        if self._is_adapter():
            # Never one name twice: the prefix cache may answer for its former bearer.
            self.model_name = f"r{self._switches}-{self.digest[:12]}"
            adapter = {"lora_name": self.model_name, "lora_path": str(self.folder)}
            self._post("/v1/load_lora_adapter", adapter)
            return
        self.model_name = MODEL_NAME
        if self.backend == "transformers":
            self._post("/reload", {"folder": str(self.folder)})
            return
        self._post("/pause?mode=wait")
        try:
            weights = {"weights_path": str(self.folder)}
            self._post("/collective_rpc", {"method": "reload_weights", "kwargs": weights})
            self._post("/reset_prefix_cache")
        finally:
            self._post("/resume")

    def _post(self, path: str, body: dict[str, Any] | None = None) -> None:
        self._server.client.post(path, json=body).raise_for_status()

    def _take(self) -> Fingerprint:
        try:
            return take_fingerprint(self._server.client, self.model_name)
        except (httpx.HTTPError, LookupError, TypeError, ValueError) as error:
            told = " ".join(str(error).split()) or type(error).__name__
            raise CannotRun(
                f"the engine did not answer its fixed prompts ({told}); see {self._server.log_path}"
            ) from error

    def _check_fingerprint(self) -> Fingerprint:
        """The fingerprint, held to what is known of this checkpoint. Raises CannotRun."""
        for _ in range(3):  # other requests in the batch can flip a close call; weights cannot
            now = self._take()
            known = self._seen.setdefault(self.digest, now)
            if now.replies == known.replies:
                return now
        raise CannotRun(
            f"{self.folder} is not what the engine serves: the same weights answered the fixed "
            "prompts otherwise before; resume the run with a fresh engine"
        )


def _holds_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def _cores() -> str:
    """The cores that vLLM's threads are bound to.

    Left to itself vLLM keeps one core for its scheduler: on two cores that costs a quarter of the
    decoding speed and more of the prefill's (245 to 330 and 42 to 69 tokens/s, SmolLM2).
    """
    if told := os.environ.get("VLLM_CPU_OMP_THREADS_BIND"):
        return told
    if not hasattr(os, "sched_getaffinity"):
        return "auto"
    ours = sorted(os.sched_getaffinity(0))
    return ",".join(map(str, ours)) if len(ours) <= FEW_CORES else "auto"


def gpu_ready() -> bool:
    """Whether vLLM here is the CUDA build and an NVIDIA device is present."""
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return Path("/dev/nvidiactl").exists()
    return False
