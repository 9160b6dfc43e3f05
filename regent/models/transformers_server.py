"""A small OpenAI-compatible chat server over Transformers, for machines where vLLM cannot serve.

`python -m regent.models.transformers_server FOLDER PORT` answers POST /v1/chat/completions with the
weights in FOLDER; requests that are drawn alike (temperature, length, schema) are generated in one
batch. POST /reload {"folder": ...} puts other weights in their place. The key is demanded as
`engine_key` does. JSON schemas are held to by xgrammar where it is installed and refused elsewhere.
Does not cover streaming, several choices a request, tools, or a seed a request; slower than vLLM.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import uvicorn
from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from transformers import AutoModelForCausalLM, AutoTokenizer

from regent.models.engine_key import DemandKey
from regent.records import canonical_json

_BATCH = 32
_GATHER_S = 0.01


class ChatRequest(BaseModel):
    """The fields of a chat completion that this server understands; others are ignored."""

    model: str = ""
    messages: list[dict[str, Any]] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    stream: bool | None = None
    n: int | None = None
    response_format: dict[str, Any] | None = None

    @property
    def length(self) -> int:
        """Most tokens of the reply."""
        return self.max_tokens or self.max_completion_tokens or 256

    @property
    def stops(self) -> list[str]:
        """The strings at which the reply ends."""
        return [self.stop] if isinstance(self.stop, str) else (self.stop or [])

    @property
    def schema_to_keep(self) -> dict[str, Any] | None:
        """The JSON schema that the reply must keep, if one was asked for."""
        asked = self.response_format or {}
        return (asked.get("json_schema") or {}).get("schema")

    @property
    def manner(self) -> str:
        """Requests of one manner can share a batch."""
        fields = ("temperature", "top_p", "logprobs", "response_format")
        told = {name: getattr(self, name) for name in fields}
        return canonical_json({**told, "length": self.length, "stops": self.stops}).decode()


@dataclass
class Waiting:
    """A request and the place where its answer goes."""

    request: ChatRequest
    answer: asyncio.Future[dict[str, Any]]


class Batcher:
    """One model, one generation at a time; requests of one manner that wait together go."""

    def __init__(self, folder: Path) -> None:
        self._waiting: list[Waiting] = []
        self._came = asyncio.Event()
        # One thread for the model: it takes turns, and OpenMP keeps one team instead of many.
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._load(folder)

    def _load(self, folder: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()

    async def reload(self, folder: Path) -> None:
        """Weights of `folder` from the next batch on."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load, folder)

    async def answer(self, request: ChatRequest) -> dict[str, Any]:
        """The completion, in OpenAI's form."""
        place: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(request, place))
        self._came.set()
        return await place

    async def work(self) -> None:
        """Answers what waits, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await self._came.wait()
            await asyncio.sleep(_GATHER_S)
            manner = self._waiting[0].request.manner
            batch = [one for one in self._waiting if one.request.manner == manner][:_BATCH]
            self._waiting = [one for one in self._waiting if one not in batch]
            if not self._waiting:
                self._came.clear()
            requests = [one.request for one in batch]
            try:
                answers = await loop.run_in_executor(self._thread, self._generate, requests)
            except Exception as error:  # whatever a model raises is these requests' failure
                for one in batch:
                    if not one.answer.done():
                        one.answer.set_exception(error)
                continue
            for one, answer in zip(batch, answers, strict=True):
                if not one.answer.done():
                    one.answer.set_result(answer)

    @torch.inference_mode()
    def _generate(self, requests: Sequence[ChatRequest]) -> list[dict[str, Any]]:
        how = requests[0]
        texts = [
            self._tokenizer.apply_chat_template(
                one.messages, tokenize=False, add_generation_prompt=True
            )
            for one in requests
        ]
        prompt = self._tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        options: dict[str, Any] = {"do_sample": how.temperature > 0}
        if how.temperature > 0:
            options |= {"temperature": how.temperature, "top_p": how.top_p, "top_k": 0}
        if how.stops:
            options |= {"stop_strings": how.stops, "tokenizer": self._tokenizer}
        if schema := how.schema_to_keep:
            options["logits_processor"] = [self._grammar(schema)]
        out = self._model.generate(
            **prompt,
            max_new_tokens=how.length,
            pad_token_id=self._tokenizer.pad_token_id,
            return_dict_in_generate=True,
            output_logits=bool(how.logprobs),
            **options,
        )
        width = prompt["input_ids"].shape[1]
        prompt_tokens = prompt["attention_mask"].sum(dim=1).tolist()
        logits = torch.stack(out.logits, dim=1) if how.logprobs else None
        return [
            self._completion(
                how,
                out.sequences[row, width:],
                int(prompt_tokens[row]),
                None if logits is None else logits[row],
            )
            for row in range(len(requests))
        ]

    def _completion(
        self,
        how: ChatRequest,
        tokens: torch.Tensor,
        prompt_tokens: int,
        logits: torch.Tensor | None,
    ) -> dict[str, Any]:
        ends = self._model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        ended = [i for i, token in enumerate(tokens.tolist()) if token in ends]
        kept = tokens[: ended[0]] if ended else tokens
        text = self._tokenizer.decode(kept, skip_special_tokens=True)
        stopped = bool(ended)
        for stop in how.stops:
            if stop in text:
                text, stopped = text[: text.index(stop)], True
        finish = "stop" if stopped else "length"
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": finish,
            "logprobs": None if logits is None else self._logprobs(kept, logits),
        }
        used = len(kept) + bool(ended)
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": used}
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": how.model,
            "choices": [choice],
            "usage": {**usage, "total_tokens": prompt_tokens + used},
        }

    def _logprobs(self, tokens: torch.Tensor, logits: torch.Tensor) -> dict[str, Any]:
        rows = logits[: len(tokens)].float().log_softmax(dim=-1)
        values = rows.gather(1, tokens[:, None]).squeeze(1).tolist()
        texts = [self._tokenizer.decode(token) for token in tokens]
        return {
            "content": [
                {"token": text, "logprob": value, "top_logprobs": []}
                for text, value in zip(texts, values, strict=True)
            ]
        }

    def _grammar(self, schema: dict[str, Any]) -> Any:
        import xgrammar
        from xgrammar.contrib.hf import LogitsProcessor

        info = xgrammar.TokenizerInfo.from_huggingface(
            self._tokenizer, vocab_size=self._model.config.vocab_size
        )
        compiled = xgrammar.GrammarCompiler(info).compile_json_schema(
            canonical_json(schema).decode()
        )
        return LogitsProcessor(compiled)


def application(folder: Path, name: str = "champion") -> Starlette:
    """The server, without the socket."""
    batchers: list[Batcher] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        batchers.append(Batcher(folder))
        work = asyncio.create_task(batchers[0].work())
        yield
        work.cancel()

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({})

    async def models(request: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"}]})

    async def reload(request: Request) -> JSONResponse:
        try:
            await batchers[0].reload(Path((await request.json())["folder"]))
        except (OSError, ValueError, KeyError) as error:
            return _refusal(str(error))
        return JSONResponse({})

    async def chat(request: Request) -> JSONResponse:
        try:
            asked = ChatRequest.model_validate_json(await request.body())
        except ValidationError as error:
            return _refusal(error.errors()[0]["msg"])
        if asked.stream or (asked.n or 1) > 1:
            return _refusal("this server gives one whole reply a request: no stream, n=1")
        try:
            return JSONResponse(await batchers[0].answer(asked))
        except Exception as error:  # the model's failure is the request's answer
            return _refusal(f"{type(error).__name__}: {error}", status=500)

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/v1/models", models),
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/reload", reload, methods=["POST"]),
        ],
        middleware=[Middleware(DemandKey)],
        lifespan=lifespan,
    )


def _refusal(message: str, status: int = 400) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "code": status}}, status_code=status)


if __name__ == "__main__":
    uvicorn.run(
        application(Path(sys.argv[1])),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        log_level="warning",
    )
