"""Fine-tuning trains on answers only, writes all or nothing, and repeats from its seed.

1. Rows that are malformed are refused by number, before anything loads or is written.
2. Batches hold like lengths, each example once, in an order that the seed decides.
3. On the real model the loss falls, merged weights are base plus adapter rounded once, and equal
   seeds give equal digests.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regent.config import TrainConfig
from regent.errors import CannotRun
from regent.models.finetune import finetune, grouped_order
from regent.models.weights import checkpoint_digest


def row(question: str, answer: str, **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, **more}


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"\n".join(json.dumps(each).encode() for each in rows)


SUMS = [row(f"What is {i} + {i + 3}?", str(2 * i + 3), provenance={}) for i in range(16)]
GOOD = jsonl(SUMS[:2])


@pytest.mark.parametrize(
    ("data", "method", "line"),
    [
        (b"", "sft", "no rows"),
        (GOOD + b"\n{", "sft", "row 3"),
        (GOOD + b'\n\n["messages"]', "sft", "row 4"),
        (GOOD + b'\n{"messages": [{"role": "narrator", "content": "x"}]}', "sft", "row 3"),
        (GOOD + b'\n{"messages": [{"role": "user", "content": "x"}]}', "sft", "row 3.*assistant"),
        (jsonl([row("q", " ")]), "sft", "row 1.*assistant"),
        (GOOD, "dpo", "row 1.*rejected"),
    ],
)
def test_a_malformed_row_is_refused_by_number(
    data: bytes, method: Any, line: str, tmp_path: Path
) -> None:
    with pytest.raises(CannotRun, match=line):
        finetune(tmp_path, data, tmp_path / "out", TrainConfig(method=method), seed=0)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="exists already"):
        finetune(tmp_path, GOOD, tmp_path, TrainConfig(), seed=0)


def test_batches_hold_like_lengths_and_every_example_once() -> None:
    lengths = np.random.default_rng(7).integers(10, 500, size=131).tolist()
    order = grouped_order(lengths, 8, np.random.default_rng(0))
    assert sorted(order) == list(range(131))
    assert order == grouped_order(lengths, 8, np.random.default_rng(0))
    assert order != grouped_order(lengths, 8, np.random.default_rng(1))

    def padding(indices: list[int]) -> int:
        batches = [[lengths[i] for i in indices[at : at + 8]] for at in range(0, 131, 8)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(order) < 0.35 * padding(list(range(131)))
    longest = [max(lengths[i] for i in order[at : at + 8]) for at in range(0, 128, 8)]
    assert longest != sorted(longest, reverse=True)


@pytest.mark.real
@pytest.mark.timeout(400)
def test_sft_lowers_the_loss_merges_to_rounding(smollm2_folder: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = TrainConfig(epochs=3, max_length=64)
    data = jsonl([*SUMS, row("long " * 100, "dropped")])
    seen: list[tuple[int, int, float]] = []
    report = finetune(
        smollm2_folder, data, tmp_path / "a", settings, seed=1, progress=lambda *s: seen.append(s)
    )
    assert report.last_loss < 0.6 * report.first_loss
    assert (report.steps, report.examples, report.dropped) == (6, 16, 1)
    assert [(step, steps) for step, steps, _ in seen] == [(i, 6) for i in range(1, 7)]
    assert {path.name for path in tmp_path.iterdir()} == {"a"}

    # Independent oracle: W + (alpha / r) B A in float32, rounded to bfloat16 once.
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "a", dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype=torch.float32)
    factors = load_file(tmp_path / "a" / "adapter" / "adapter_model.safetensors")
    weights, trained = base.state_dict(), merged.state_dict()
    for name in [name for name in factors if name.endswith("lora_A.weight")]:
        key = name.removeprefix("base_model.model.").replace("lora_A.weight", "weight")
        product = factors[name.replace("lora_A", "lora_B")] @ factors[name]
        expected = (weights.pop(key) + 2.0 * product).bfloat16().float()
        assert (trained[key] != expected).float().mean() < 1e-3
    assert all(torch.equal(weight, trained[name]) for name, weight in weights.items())

    # What rounding costs is small beside what training did.
    ids: Any = AutoTokenizer.from_pretrained(tmp_path / "a").apply_chat_template(
        SUMS[3]["messages"][:1], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        before = base(**ids).logits[0, -1].log_softmax(-1)
        actual = merged(**ids).logits[0, -1].log_softmax(-1)
        adapted = PeftModel.from_pretrained(base, tmp_path / "a" / "adapter")
        intended = adapted(**ids).logits[0, -1].log_softmax(-1)
    lost, gained = (
        float((intended.exp() * (intended - other)).sum()) for other in (actual, before)
    )
    assert lost < 0.1 * gained


@pytest.mark.real
@pytest.mark.timeout(400)
def test_equal_seeds_give_equal_weights_and_others_differ(
    smollm2_folder: Path, tmp_path: Path
) -> None:
    settings = TrainConfig(batch_size=4)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        finetune(smollm2_folder, jsonl(SUMS[:8]), tmp_path / name, settings, seed=seed)
    digests = [checkpoint_digest(tmp_path / name) for name in "abc"]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.real
def test_the_answer_head_gives_the_loss_and_gradient_of_trl(smollm2_folder: Path) -> None:
    import torch
    from trl.trainer.utils import add_fused_lm_head

    from regent.models.answer_head import score_answers_only
    from regent.models.local import load_weights

    ids = torch.tensor([[1, 5, 9, 44, 45, 46], [1, 7, 300, 301, 2, 2]])
    labels = torch.tensor([[-100, -100, -100, 44, 45, 46], [-100, -100, 300, 301, -100, -100]])
    results = []
    for ours in (False, True):
        model = load_weights(smollm2_folder).float()
        add_fused_lm_head(model, outputs=("log_probs",))
        if ours:
            score_answers_only(model)
        output = model(input_ids=ids, labels=labels, fused_lm_head=True, num_items_in_batch=5)
        output.loss.backward()
        gradient = model.model.layers[3].mlp.up_proj.weight.grad
        results.append((output.loss.item(), output.log_probs, output.label_mask, gradient))
    (loss, nats, mask, gradient), (our_loss, our_nats, our_mask, our_gradient) = results
    assert our_loss == pytest.approx(loss, rel=1e-5)
    assert torch.equal(mask, our_mask)
    assert torch.allclose(nats, our_nats, atol=1e-3)
    assert torch.allclose(gradient, our_gradient, rtol=1e-2, atol=1e-6)


@pytest.mark.real
@pytest.mark.timeout(400)
def test_dpo_prefers_what_was_chosen(smollm2_folder: Path, tmp_path: Path) -> None:
    from regent.models.local import LocalModel
    from regent.records import Message

    pairs = [row(f"Say hello to guest {i}.", "Ahoy!", rejected="Good day.") for i in range(8)]
    settings = TrainConfig(method="dpo", batch_size=4, epochs=2, learning_rate=5e-5)
    report = finetune(smollm2_folder, jsonl(pairs), tmp_path / "out", settings, seed=0)
    assert report.steps == 4
    assert report.last_loss < report.first_loss
    asked = [(Message(role="user", content="Say hello to guest 9."),)] * 2
    margins = []
    for folder in (smollm2_folder, tmp_path / "out"):
        chosen, rejected = LocalModel(folder).score(asked, ["Ahoy!", "Good day."])
        margins.append(chosen - rejected)
    assert margins[1] > margins[0]
