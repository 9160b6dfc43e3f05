"""Asks a model for one experiment at a time, as structured output with every field bounded.

LangChain's `ChatOpenAI` speaks with the engine's OpenAI-compatible endpoint, constrained by a JSON
schema, so that even the smallest model answers with a valid proposal. Enums hold the choices and
`maxLength` holds the reason, because a small model that may run on inside a field meets the token
limit there. A reply that was cut, does not parse or did not come is asked for again a bounded
number of times, and is then recorded as failed.

No seed goes with a request: vLLM's CPU engine dies of one.
Does not cover: what becomes of a proposal (`agents.planner`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import openai
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, ConfigDict, Field, SecretStr, create_model

Strategy = Literal["attempt", "teach", "explore"]
Difficulty = Literal["same", "easier"]

REASON_LENGTH = 120
CUT = "the reply was cut at the token limit"
BAD = "the reply is not a proposal"


class Proposal(BaseModel):
    """What a planner may choose: a gap by its short id, how to work on it, and why."""

    model_config = ConfigDict(extra="forbid")

    gap: str = Field(max_length=8)
    strategy: Strategy
    difficulty: Difficulty
    reason: str = Field(max_length=REASON_LENGTH)


@dataclass(frozen=True)
class Asked:
    """What came of asking: a proposal, or none and why; `tokens` counts every try."""

    proposal: Proposal | None
    error: str = ""
    tokens: int = 0


class Ask(Protocol):
    """Anything that answers planning prompts, one answer a prompt, failures included."""

    def __call__(self, prompts: Sequence[str], schema: type[Proposal]) -> list[Asked]: ...


def proposal_schema(gap_ids: Sequence[str]) -> type[Proposal]:
    """`Proposal` with `gap` an enum of exactly these ids."""
    choices = cast(Any, Literal)[tuple(gap_ids)]
    return create_model("Experiment", __base__=Proposal, gap=(choices, ...))


def chat_ask(
    base_url: str,
    api_key: str,
    model: str,
    *,
    temperature: float = 0.7,
    max_tokens: int = 160,
    timeout_s: float = 45.0,
    attempts: int = 3,
    patience_s: float = 60.0,
    concurrency: int = 8,
) -> Ask:
    """An `Ask` over an OpenAI-compatible endpoint (`base_url` ends in `/v1`). It never raises.

    `timeout_s` is for one reply; after `patience_s` nothing is asked for again.
    """
    chat = ChatOpenAI(
        base_url=base_url,
        api_key=SecretStr(api_key or "none"),
        model=model,
        temperature=temperature,
        max_completion_tokens=max_tokens,
        timeout=timeout_s,
        max_retries=0,
    )

    def ask(prompts: Sequence[str], schema: type[Proposal]) -> list[Asked]:
        chain = chat.with_structured_output(schema, method="json_schema", include_raw=True)
        asked = [Asked(None, "not asked") for _ in prompts]
        waiting = list(range(len(prompts)))
        until = time.monotonic() + patience_s
        for attempt in range(attempts):
            if not waiting or (attempt and time.monotonic() > until):
                break
            outputs = chain.batch(
                [prompts[i] for i in waiting],
                config={"max_concurrency": concurrency},
                return_exceptions=True,
            )
            for i, output in zip(waiting, outputs, strict=True):
                fresh = _read(output, schema)
                asked[i] = Asked(fresh.proposal, fresh.error, asked[i].tokens + fresh.tokens)
            waiting = [i for i in waiting if asked[i].proposal is None]
        return asked

    return ask


def _read(output: Any, schema: type[Proposal]) -> Asked:
    """One output of the chain: the proposal, or in one line why there is none."""
    if isinstance(output, BaseException):
        return Asked(None, _failure(output), _tokens_of_refused(output))
    raw = output["raw"]
    tokens = int((raw.usage_metadata or {}).get("total_tokens", 0))
    if raw.response_metadata.get("finish_reason") == "length":
        return Asked(None, CUT, tokens)
    parsed = output["parsed"]
    return Asked(parsed, "", tokens) if isinstance(parsed, schema) else Asked(None, BAD, tokens)


def _failure(error: BaseException) -> str:
    match error:
        case openai.LengthFinishReasonError():
            return CUT
        case ValueError():
            return BAD
        case openai.APITimeoutError():
            return "no reply in time"
        case openai.APIConnectionError():
            return "the endpoint cannot be reached"
        case openai.APIStatusError():
            return f"the endpoint answered {error.status_code}"
        case _:
            return type(error).__name__


def _tokens_of_refused(error: BaseException) -> int:
    """Tokens of a reply that came and that the client refused, leaving it on the error."""
    try:
        usage = error.response.json()["usage"]  # type: ignore[attr-defined]
        return int(usage["total_tokens"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return 0
