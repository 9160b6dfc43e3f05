"""The lm-eval side of an export, copied into it as `scoring.py`: how an item is asked and counted.

One document is one item and makes four requests: both orders of its options, each option scored
whole, with the token that ends a reply. An option's score is its log-probability averaged over the
orders, so the harness gives the accuracy that Regent gives. Written for lm-eval 0.4.13; imports
nothing of Regent.

Does not cover models without a chat template, few-shot prompts, or a score by token.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

_QUAD = 4  # items


class ProbingTask(ConfigurableTask):  # type: ignore[misc]
    """A sub-task: the rows of `dataset_name`.jsonl beside this file.

    Raises ValueError where the harness applies no chat template or is asked for examples.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config={name: config[name] for name in config if name != "class"})

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        with (Path(__file__).parent / f"{self.config.dataset_name}.jsonl").open("rb") as file:
            rows = [{"canary": None, **json.loads(line)} for line in file]
        self.dataset = {"test": Dataset.from_list(rows)}

    def fewshot_context(self, doc: dict[str, Any], num_fewshot: int, **how: Any) -> list[str]:
        """The prompt in each order of the options."""
        if num_fewshot or not how.get("apply_chat_template"):
            raise ValueError(
                f"{self.config.task} is asked without examples and as a chat: "
                "leave --num_fewshot out and add --apply_chat_template"
            )
        render = super().fewshot_context
        return [render({**doc, "prompts": [asked]}, 0, **how) for asked in doc["prompts"]]

    def construct_requests(
        self, doc: dict[str, Any], ctx: Sequence[str], **kwargs: Any
    ) -> list[Instance]:
        """Order by order, option by option: [4]."""
        del kwargs["apply_chat_template"]
        model = kwargs.pop("chat_template").__self__  # nothing else here knows the end token
        pairs = [
            (prompt, reply(model, asked, prompt, option))
            for asked, prompt in zip(doc["prompts"], ctx, strict=True)
            for option in doc["options"]
        ]
        return [
            Instance("loglikelihood", doc, pair, place, **kwargs)
            for place, pair in enumerate(pairs)
        ]


def reply(model: Any, asked: str, prompt: str, option: str) -> str:
    """`option` as the chat template writes it behind `prompt`, up to its end token."""
    tokenizer = model.tokenizer
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": option}]
    whole = tokenizer.apply_chat_template(
        turns, tokenize=False, **getattr(model, "chat_template_args", {})
    )
    text = whole[len(prompt) :] if whole.startswith(prompt) else option
    return str(text.split(tokenizer.eos_token)[0] + tokenizer.eos_token)


def outcome(doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """What one item adds to each metric. `results`: [4], as `construct_requests` asks."""
    one, other, one_again, other_again = (nats for nats, _ in results)
    gap = (one + one_again - other - other_again) / 2
    if doc["gold"] == 1:
        gap = -gap
    right = 0.5 + 0.5 * ((gap > 0) - (gap < 0)) if math.isfinite(gap) else math.nan
    return {
        "acc": right,
        "acc_se_by_frame": (doc["frame"], right),
        "consistency": (doc["quad"], right),
        "missing": right,
    }


def accuracy(rights: Sequence[float]) -> float:
    """Share of right answers; an item without a score counts in nothing."""
    known = [right for right in rights if not math.isnan(right)]
    return sum(known) / len(known) if known else math.nan


def standard_error(by_frame: Sequence[tuple[str, float]]) -> float:
    """Of the accuracy, clustered by frame (Miller 2024, arXiv 2411.00640, with C / (C - 1))."""
    known = [(frame, right) for frame, right in by_frame if not math.isnan(right)]
    frames = {frame for frame, _ in known}
    if len(frames) < 2:
        return math.nan
    mean = accuracy([right for _, right in known])
    squares = (sum(right - mean for name, right in known if name == frame) ** 2 for frame in frames)
    return math.sqrt(sum(squares) * len(frames) / (len(frames) - 1)) / len(known)


def consistency(by_quad: Sequence[tuple[str, float]]) -> float:
    """Share of whole quads with all four right."""
    quads: dict[str, list[float]] = {}
    for quad, right in by_quad:
        if not math.isnan(right):
            quads.setdefault(quad, []).append(right)
    whole = [min(rights) == 1 for rights in quads.values() if len(rights) == _QUAD]
    return sum(whole) / len(whole) if whole else math.nan


def missing(rights: Sequence[float]) -> int:
    """Items without a score."""
    return sum(map(math.isnan, rights))
