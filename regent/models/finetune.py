"""Fine-tunes a checkpoint with TRL and a LoRA adapter: SFT on answers, or DPO on pairs.

The trainer and the supervisor's rehearsal both come here. Loss is on the last assistant turn
only. What is written is the merged weights in bfloat16 with the tokenizer, and the adapter beside
them in `adapter/`. Does not cover where the bytes come from: only the supervisor's vault says
which may be trained on.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regent.config import TrainConfig
from regent.errors import CannotRun
from regent.models.answer_head import score_answers_only
from regent.models.local import load_tokenizer, load_weights, prompt_ids, reply_ids
from regent.models.quiet import quiet_libraries
from regent.models.weights import MARKER
from regent.records import Message

Progress = Callable[[int, int, float], None]

# Batches are drawn from groups this many batches wide: like lengths together, yet still mixed.
_GROUP = 8


@dataclass(frozen=True)
class FinetuneReport:
    """What a fine-tuning run did. Losses are means over the first and last tenth of the steps.

    `tokens` are those attended to (no padding) over all epochs; `tokens_per_second` is over the
    training loop, `seconds` over all of it. `dropped` rows were longer than `max_length`.
    """

    steps: int
    examples: int
    dropped: int
    tokens: int
    seconds: float
    tokens_per_second: float
    first_loss: float
    last_loss: float


@dataclass(frozen=True)
class _Row:
    conversation: tuple[Message, ...]
    answer: str
    rejected: str


def finetune(
    parent: Path,
    jsonl: bytes,
    out: Path,
    settings: TrainConfig,
    *,
    seed: int,
    progress: Progress | None = None,
) -> FinetuneReport:
    """Train `parent` on `jsonl` and write the successor into `out`, all or nothing.

    Each line of `jsonl` is `{"messages": [...]}` ending with the assistant's turn, and for DPO
    `"rejected"` too; other keys are left alone. Equal bytes, settings and seed on one machine give
    equal weights. `progress` is told (step, steps, loss). Raises CannotRun where a
    row is malformed (naming it), `out` exists, nothing fits `max_length` or the parent does not
    load.
    """
    began = time.perf_counter()
    if out.exists():
        raise CannotRun(f"{out} exists already; give a folder that does not")
    rows = _parse(jsonl, preference=settings.method == "dpo")
    tokenizer = load_tokenizer(parent)
    encoded = [_encode(tokenizer, row, settings) for row in rows]
    kept = [row for row in encoded if _length(row) <= settings.max_length]
    if not kept:
        raise CannotRun(
            f"all {len(rows)} examples are longer than max_length {settings.max_length}; raise it"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=out.parent, prefix=".training-") as temporary,
            quiet_libraries(),
        ):
            trainer = _trainer(parent, tokenizer, kept, settings, seed, Path(temporary), progress)
            started = time.perf_counter()
            trainer.train()
            trained = time.perf_counter() - started
            losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
            fresh = Path(temporary) / "model"
            _save(trainer, parent, fresh)
            fresh.rename(out)
    except OSError as error:
        raise CannotRun(f"{out}: {error.strerror or error}; free space or give another") from error
    tokens = settings.epochs * sum(_attended(row) for row in kept)
    tenth = max(1, len(losses) // 10)
    return FinetuneReport(
        steps=int(trainer.state.global_step),
        examples=len(kept),
        dropped=len(rows) - len(kept),
        tokens=tokens,
        seconds=time.perf_counter() - began,
        tokens_per_second=tokens / trained,
        first_loss=float(np.mean(losses[:tenth])),
        last_loss=float(np.mean(losses[-tenth:])),
    )


def grouped_order(
    lengths: Sequence[int], batch_size: int, generator: np.random.Generator
) -> list[int]:
    """A shuffled order of examples in which each batch holds like lengths.

    Random groups of some batches are sorted by length and cut into batches, which are shuffled
    again: Transformers' own grouping leaves each group running from long to short.
    """
    shuffled = generator.permutation(len(lengths)).tolist()
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), _GROUP * batch_size):
        group = sorted(
            shuffled[start : start + _GROUP * batch_size], key=lambda i: lengths[i], reverse=True
        )
        batches += [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
    # The loader cuts the order into batches by count, so the one short batch must come last.
    full = [batch for batch in batches if len(batch) == batch_size]
    short = [batch for batch in batches if len(batch) < batch_size]
    order = [full[i] for i in generator.permutation(len(full))] + short
    return [i for batch in order for i in batch]


class _GroupedSampler:
    """A sampler over `grouped_order`, a fresh order each epoch, all from one seed."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size = lengths, batch_size
        self.generator = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(grouped_order(self.lengths, self.batch_size, self.generator))


def _parse(jsonl: bytes, *, preference: bool) -> list[_Row]:
    rows: list[_Row] = []
    for number, line in enumerate(jsonl.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            turns = [
                Message(role=turn["role"], content=turn["content"]) for turn in value["messages"]
            ]
            rejected = value.get("rejected", "")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CannotRun(
                f"training data, row {number}: not an object with chat messages; mend that row"
            ) from error
        if len(turns) < 2 or turns[-1].role != "assistant" or not turns[-1].content.strip():
            raise CannotRun(
                f"training data, row {number}: it must end with an answer of the assistant after "
                "at least one other message; mend that row"
            )
        if preference and (not isinstance(rejected, str) or not rejected.strip()):
            raise CannotRun(f"training data, row {number}: DPO needs 'rejected'; add it or use SFT")
        rows.append(_Row(tuple(turns[:-1]), turns[-1].content, rejected))
    if not rows:
        raise CannotRun("training data: no rows; give at least one example")
    return rows


def _encode(tokenizer: Any, row: _Row, settings: TrainConfig) -> dict[str, list[int]]:
    prompt = prompt_ids(tokenizer, row.conversation)
    answer = reply_ids(tokenizer, row.conversation, row.answer)
    if settings.method == "dpo":
        rejected = reply_ids(tokenizer, row.conversation, row.rejected)
        return {"prompt_ids": prompt, "chosen_ids": answer, "rejected_ids": rejected}
    return {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}


def _length(row: dict[str, list[int]]) -> int:
    if "input_ids" in row:
        return len(row["input_ids"])
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def _attended(row: dict[str, list[int]]) -> int:
    if "input_ids" in row:
        return len(row["input_ids"])
    return 2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])


def _trainer(
    parent: Path,
    tokenizer: Any,
    rows: list[dict[str, list[int]]],
    settings: TrainConfig,
    seed: int,
    folder: Path,
    progress: Progress | None,
) -> Any:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback, TrainerCallback
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    on_cpu = not torch.cuda.is_available()
    steps = settings.epochs * -(-len(rows) // settings.batch_size)
    lengths = [_length(row) for row in rows]

    class Report(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if progress is not None and logs and "loss" in logs:
                progress(int(state.global_step), steps, float(logs["loss"]))

    common: dict[str, Any] = {
        "output_dir": str(folder / "trainer"),
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "linear",
        # Transformers' warm-up starts at zero, which would waste a step of the few there are.
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "seed": seed,
        "data_seed": seed,
        "bf16": True,
        "use_cpu": on_cpu,
        # Recomputing activations buys memory with a third of the speed: worth it on a GPU only.
        "gradient_checkpointing": not on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "max_length": None,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }
    base = SFTTrainer if settings.method == "sft" else DPOTrainer
    config = (SFTConfig if settings.method == "sft" else DPOConfig)(**common)

    class Trainer(base):  # type: ignore[misc, valid-type]
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset  # tokenized above, as it will be scored and sampled

        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return _GroupedSampler(lengths, settings.batch_size, seed)

    trainer = Trainer(
        model=load_weights(parent).train(),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=settings.lora_rank,
            lora_alpha=2 * settings.lora_rank,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[Report()],
    )
    trainer.remove_callback(PrinterCallback)
    if on_cpu:
        score_answers_only(trainer.model.get_base_model())
    return trainer


def _save(trainer: Any, parent: Path, fresh: Path) -> None:
    """Merged weights, the parent's own tokenizer files and the adapter; no path of this machine."""
    import torch

    adapter = fresh / "adapter"
    trainer.model.save_pretrained(adapter)
    (adapter / "README.md").unlink(missing_ok=True)
    described = adapter / "adapter_config.json"
    fields = json.loads(described.read_text(encoding="utf-8"))
    fields["base_model_name_or_path"] = parent.name
    # PEFT writes a set in hash order, which would give equal adapters unequal digests.
    fields["target_modules"] = sorted(fields["target_modules"])
    described.write_text(json.dumps(fields, indent=2, sort_keys=True), encoding="utf-8")

    model = trainer.model.merge_and_unload()
    model.__dict__.pop("forward", None)
    told = json.loads((parent / "config.json").read_text(encoding="utf-8"))
    model.config.use_cache = told.get("use_cache", True)  # TRL switches it off for training
    model.to(torch.bfloat16).save_pretrained(fresh)
    for path in sorted(parent.iterdir()):
        told_elsewhere = path.name == MARKER or path.name.endswith(".index.json")
        tokenizing = path.suffix in {".json", ".jinja", ".model", ".txt"} and not told_elsewhere
        if tokenizing and not (fresh / path.name).exists():
            shutil.copyfile(path, fresh / path.name)
