"""A model whose weights are at hand, through Transformers: `sample`, `score`, `hidden`.

Sampling is from the model's own distribution (no top-k, whatever its generation file says), so
it may be compared with what a server draws. Does not cover JSON-schema constrained replies, which
need the engine, nor many requests at once: vLLM is faster (see `engine`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from regent.errors import CannotRun
from regent.models.quiet import quiet_libraries
from regent.models.speaker import Conversation, Reply, Sampling
from regent.records import Message

# Transformers on two cores: 32 at once is several times faster than 128.
_BATCH = 32


def prompt_ids(tokenizer: Any, conversation: Conversation) -> list[int]:
    """Token ids of the conversation up to where the assistant's reply begins."""
    ids: list[int] = tokenizer(_rendered(tokenizer, conversation), add_special_tokens=False)[
        "input_ids"
    ]
    return ids


def reply_ids(tokenizer: Any, conversation: Conversation, reply: str) -> list[int]:
    """Token ids of `reply` as the assistant's next turn, its end token last.

    Tokenized apart from the prompt, as a model that generates it would see it; what a template
    writes after the end token (a line break) is left out.
    """
    prompt = _rendered(tokenizer, conversation)
    turn = Message(role="assistant", content=reply)
    whole = _rendered(tokenizer, [*conversation, turn], prompting=False)
    end: str = tokenizer.eos_token
    text = whole[len(prompt) :] if whole.startswith(prompt) else reply + end
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if tokenizer.eos_token_id not in ids:
        return [*ids, tokenizer.eos_token_id]
    return ids[: ids.index(tokenizer.eos_token_id) + 1]


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in `folder`. Raises CannotRun where none loads or it has no chat template."""
    from transformers import AutoTokenizer

    with quiet_libraries():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, KeyError) as error:
            raise CannotRun(
                f"{folder}: no tokenizer that loads ({_line(error)}); give a folder saved "
                "with model and tokenizer"
            ) from error
    if not tokenizer.chat_template:
        raise CannotRun(f"{folder}: the tokenizer has no chat template; give an instruct model")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_weights(folder: Path, adapter: Path | None = None) -> Any:
    """The causal language model in `folder` in bfloat16 with the adapter merged, in eval mode.

    Raises CannotRun where either does not load.
    """
    from transformers import AutoModelForCausalLM

    with quiet_libraries():
        try:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        except Exception as error:  # safetensors, JSON and model code each raise their own
            raise CannotRun(f"{folder}: its weights do not load ({_line(error)})") from error
        if adapter is not None:
            from peft import PeftModel

            try:
                peft_model = PeftModel.from_pretrained(model, str(adapter))
                model = peft_model.merge_and_unload()
            except Exception as error:
                raise CannotRun(
                    f"{adapter}: the adapter does not fit {folder} ({_line(error)})"
                ) from error
    return model.eval()


class LocalModel:
    """A Scorer over a folder of weights, with an adapter merged in where one is given."""

    can = frozenset({"sample", "score", "hidden"})

    def __init__(self, folder: Path, adapter: Path | None = None, *, name: str = "") -> None:
        self.name = name or (f"{folder}+{adapter}" if adapter else str(folder))
        self.tokenizer = load_tokenizer(folder)
        self.tokenizer.padding_side = "left"
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = load_weights(folder, adapter).to(self.device)
        self.context: int = self.model.config.get_text_config().max_position_embeddings

    def sample(self, conversations: Sequence[Conversation], how: Sampling) -> list[Reply]:
        """One reply a conversation, in order. With `how.seed`, equal calls give equal replies.

        A prompt that leaves no room for a reply, and any JSON schema, come back as an error.
        """
        if how.json_schema is not None:
            error = "local weights are not held to a JSON schema; serve them with vLLM"
            return [Reply("", "error", error=error) for _ in conversations]
        prompts = [prompt_ids(self.tokenizer, conversation) for conversation in conversations]
        replies: list[Reply] = [
            Reply("", "error", error=f"the prompt has {len(ids)} of {self.context} tokens")
            for ids in prompts
        ]
        fits = [i for i, ids in enumerate(prompts) if len(ids) + how.max_tokens <= self.context]
        with torch.random.fork_rng(enabled=how.seed is not None), torch.inference_mode():
            if how.seed is not None:
                torch.manual_seed(how.seed)
            for batch in _batches(fits, [len(ids) for ids in prompts]):
                drawn = self._generate([prompts[i] for i in batch], how)
                for i, reply in zip(batch, drawn, strict=True):
                    replies[i] = reply
        return replies

    def score(
        self, conversations: Sequence[Conversation], continuations: Sequence[str]
    ) -> NDArray[np.float64]:
        """Sum of log-probabilities (nats) of each continuation and its end token: [n].

        Final logits are computed in float32: bfloat16 ones are 0.06 off at their usual size.
        """
        prompts = [prompt_ids(self.tokenizer, conversation) for conversation in conversations]
        replies = [
            reply_ids(self.tokenizer, conversation, text)
            for conversation, text in zip(conversations, continuations, strict=True)
        ]
        whole = [prompt + reply for prompt, reply in zip(prompts, replies, strict=True)]
        scores = np.zeros(len(whole), dtype=np.float64)
        with torch.inference_mode(), float32_head(self.model):
            for batch in _batches(range(len(whole)), [len(ids) for ids in whole]):
                longest = max(len(replies[i]) for i in batch)
                inputs = self.padded([whole[i] for i in batch])
                logits = self.model(**inputs, logits_to_keep=longest + 1).logits
                nats = torch.log_softmax(logits[:, :-1].float(), dim=-1)
                targets = inputs["input_ids"][:, -longest:, None]
                chosen = nats.gather(-1, targets)[..., 0].double().cpu().numpy()
                for row, i in enumerate(batch):
                    scores[i] = chosen[row, longest - len(replies[i]) :].sum()
        return scores

    def hidden(self, conversations: Sequence[Conversation], layer: int) -> NDArray[np.float32]:
        """State of the last prompt token at `layer` (0 is the embedding): [n, width].

        Raises CannotRun on a layer that the model does not have.
        """
        layers = self.model.config.get_text_config().num_hidden_layers
        if not 0 <= layer <= layers:
            raise CannotRun(f"{self.name} has layers 0 to {layers}, not {layer}")
        prompts = [prompt_ids(self.tokenizer, conversation) for conversation in conversations]
        width = self.model.config.get_text_config().hidden_size
        states = np.zeros((len(prompts), width), dtype=np.float32)
        with torch.inference_mode():
            for batch in _batches(range(len(prompts)), [len(ids) for ids in prompts]):
                inputs = self.padded([prompts[i] for i in batch])
                output = self.model(**inputs, logits_to_keep=1, output_hidden_states=True)
                states[batch] = output.hidden_states[layer][:, -1].float().cpu().numpy()
        return states

    def _generate(self, prompts: list[list[int]], how: Sampling) -> list[Reply]:
        from transformers import GenerationConfig

        ends = self.model.generation_config.eos_token_id
        ends = {*(ends if isinstance(ends, list) else [ends]), self.tokenizer.eos_token_id}
        sampled = how.temperature > 0
        config = GenerationConfig(
            max_new_tokens=how.max_tokens,
            do_sample=sampled,
            temperature=how.temperature if sampled else None,
            top_p=how.top_p if sampled else None,
            top_k=0 if sampled else None,
            eos_token_id=sorted(end for end in ends if end is not None),
            pad_token_id=self.tokenizer.pad_token_id,
            stop_strings=list(how.stop) or None,
        )
        inputs = self.padded(prompts)
        inputs.pop("position_ids")
        with quiet_libraries():
            drawn = self.model.generate(
                **inputs, generation_config=config, tokenizer=self.tokenizer if how.stop else None
            )
        width = inputs["input_ids"].shape[1]
        return [
            self._reply(len(prompt), row[width:].tolist(), ends, how)
            for prompt, row in zip(prompts, drawn, strict=True)
        ]

    def _reply(self, prompt: int, ids: list[int], ends: set[int], how: Sampling) -> Reply:
        length = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        text: str = self.tokenizer.decode(ids[:length], skip_special_tokens=True)
        cut = min((text.find(stop) for stop in how.stop if stop in text), default=-1)
        stopped = length < len(ids) or cut >= 0
        return Reply(
            text[:cut] if cut >= 0 else text,
            "stop" if stopped else "length",
            prompt_tokens=prompt,
            completion_tokens=min(length + 1, len(ids)),
        )

    def padded(self, rows: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Left-padded ids, mask and positions, so that every row's last token lies at -1."""
        width = max(len(row) for row in rows)
        ids = torch.full((len(rows), width), self.tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, width - len(row) :] = torch.tensor(row)
            mask[i, width - len(row) :] = 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        fields = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        return {name: tensor.to(self.device) for name, tensor in fields.items()}


def _rendered(tokenizer: Any, conversation: Conversation, *, prompting: bool = True) -> str:
    turns = [{"role": turn.role, "content": turn.content} for turn in conversation]
    text: str = tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=prompting
    )
    return text


def _batches(indices: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices of like length together, longest first, so that little is padding."""
    order = sorted(indices, key=lambda i: -lengths[i])
    for start in range(0, len(order), _BATCH):
        yield order[start : start + _BATCH]


@contextmanager
def float32_head(model: Any) -> Iterator[None]:
    """Within the block the output layer multiplies in float32; soft caps and scales still apply."""
    head = model.get_output_embeddings()
    weight = head.weight.float()
    bias = None if head.bias is None else head.bias.float()

    def forward(states: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(states.float(), weight, bias)

    head.forward = forward
    try:
        yield
    finally:
        del head.forward


def _line(error: Exception) -> str:
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:160]
