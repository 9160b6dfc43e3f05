"""A model behind any OpenAI-compatible server, with retries and one deadline a request.

Covers chat completions, JSON-schema replies and vLLM's route for loading an adapter. Does not
cover scores: few servers give log-probabilities of a given reply, so `can` leaves "score" out.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import openai

from regent.errors import CannotRun
from regent.models.speaker import Conversation, Reply, Sampling
from regent.models.weights import checkpoint_digest

Result = TypeVar("Result")


class Endpoint:
    """A Speaker over `base_url` (ending in /v1).

    Connection errors, 408, 409, 429 and 5xx are tried again up to `retries` times, with
    exponential back-off and jitter (the client's own); `timeout_s` bounds a request with all its
    retries. Whatever fails comes back as a reply with `error`. `send_seed` is off because a
    per-request seed kills vLLM's engine on a CPU.
    """

    can = frozenset({"sample"})

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str = "",
        timeout_s: float = 120.0,
        max_concurrency: int = 128,
        retries: int = 3,
        *,
        send_seed: bool = False,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.name = f"{model}@{self.base_url}"
        self.timeout_s = timeout_s
        self.max_concurrency = max_concurrency
        self.retries = retries
        self.send_seed = send_seed
        self._api_key = api_key
        # A client's connections belong to the loop that opened them.
        self._clients: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[openai.AsyncOpenAI, asyncio.Semaphore]
        ] = weakref.WeakKeyDictionary()

    async def ask(self, conversation: Conversation, how: Sampling) -> Reply:
        """One reply. Never raises for what the server does: look at `error`."""
        client, places = self._client()
        async with places:
            try:
                async with asyncio.timeout(self.timeout_s):
                    answer = await client.chat.completions.create(
                        **self._request(conversation, how)
                    )
            except TimeoutError:
                return _failed(f"{self.base_url}: no answer within {self.timeout_s:g} s")
            except openai.APIStatusError as error:
                return _failed(f"{self.base_url}: HTTP {error.status_code}: {_line(error)}")
            except openai.APIConnectionError as error:
                return _failed(f"{self.base_url}: {_line(error.__cause__ or error)}")
            except (openai.OpenAIError, ValueError) as error:
                return _failed(f"{self.base_url}: {_line(error)}")
        return self._reply(answer)

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        """One reply a conversation, in order, all asked at once. Also callable within a loop."""

        async def all_of_them() -> list[Reply]:
            try:
                return list(await asyncio.gather(*(self.ask(c, how) for c in conversations)))
            finally:
                await self.aclose()

        return _in_own_loop(all_of_them())

    def load_adapter(self, folder: Path) -> str:
        """Have a vLLM server load the adapter in `folder`; the model name that then answers.

        The name carries the adapter's digest, so the prefix cache never serves another's. Raises
        CannotRun where the server refuses.
        """
        name = f"{self.model}-{checkpoint_digest(folder)[:12]}"

        async def load() -> None:
            client, _ = self._client()
            body = {"lora_name": name, "lora_path": str(folder.resolve())}
            try:
                await client.post("/load_lora_adapter", cast_to=str, body=body)
            except openai.OpenAIError as error:
                if "already" not in str(error):
                    raise CannotRun(
                        f"{self.base_url} does not load adapters ({_line(error)}); start vLLM with "
                        "--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
                    ) from error
            finally:
                await self.aclose()

        _in_own_loop(load())
        return name

    async def aclose(self) -> None:
        """Close the connections that the running loop holds."""
        held = self._clients.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held[0].close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_clients": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _clients=weakref.WeakKeyDictionary())

    def _client(self) -> tuple[openai.AsyncOpenAI, asyncio.Semaphore]:
        loop = asyncio.get_running_loop()
        held = self._clients.get(loop)
        if held is None:
            client = openai.AsyncOpenAI(
                base_url=self.base_url,
                api_key=self._api_key or "none",
                timeout=self.timeout_s,
                max_retries=self.retries,
            )
            held = self._clients[loop] = client, asyncio.Semaphore(self.max_concurrency)
        return held

    def _request(self, conversation: Conversation, how: Sampling) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in conversation],
            "max_tokens": how.max_tokens,
            "temperature": how.temperature,
            "top_p": how.top_p,
        }
        if how.stop:
            request["stop"] = list(how.stop)
        if how.seed is not None and self.send_seed:
            request["seed"] = how.seed
        if how.json_schema is not None:
            request["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "reply", "schema": how.json_schema, "strict": True},
            }
        return request

    def _reply(self, answer: Any) -> Reply:
        # The client hands on a body that is not JSON as text, and missing fields as None.
        choices: Any = getattr(answer, "choices", None)
        message: Any = getattr(choices[0], "message", None) if choices else None
        if message is None:
            return _failed(f"{self.base_url}: the answer is not a chat completion")
        usage = getattr(answer, "usage", None)
        return Reply(
            message.content or "",
            choices[0].finish_reason or "stop",
            prompt_tokens=getattr(usage, "prompt_tokens", None) or 0,
            completion_tokens=getattr(usage, "completion_tokens", None) or 0,
        )


def served_models(base_url: str, api_key: str = "", timeout_s: float = 10.0) -> list[str]:
    """The model names that a server lists. Raises CannotRun where it does not answer."""
    client = openai.OpenAI(
        base_url=base_url, api_key=api_key or "none", timeout=timeout_s, max_retries=1
    )
    try:
        with client:
            return [model.id for model in client.models.list()]
    except (openai.OpenAIError, ValueError, AttributeError, TypeError) as error:
        raise CannotRun(
            f"{base_url}: no OpenAI-compatible server answers there "
            f"({_line(error.__cause__ or error)}); start it or mend the address"
        ) from error


def _in_own_loop(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` to its end in a loop of its own thread, whether or not the caller is in a loop."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


def _failed(error: str) -> Reply:
    return Reply("", "error", error=error)


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:200]
