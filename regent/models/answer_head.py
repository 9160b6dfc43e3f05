"""The output layer at answer positions only: what makes TRL fast without a GPU.

TRL 1.16 away from CUDA projects *every* position, prompt and padding too, onto the vocabulary in
float32, does so again in the backward pass, and works out entropy and accuracy of each for its
log. Loss needs none of that. Does not cover GPUs, where TRL's kernel already takes answers alone.
"""

from __future__ import annotations

import types
from typing import Any


def score_answers_only(model: Any) -> None:
    """Replace TRL's fused forward of `model` by one that projects only positions with a label.

    Call it after the trainer is built, on the model beneath the adapter. Keeps TRL's contract for
    `fused_lm_head=True` (`log_probs`, `label_mask`, `loss`); its diagnostic fields are zero.
    Undone by deleting the instance's `forward`.
    """
    import torch
    from trl.trainer.utils import FusedCausalLMOutput

    fused = model.forward

    def forward(
        self: Any,
        *args: Any,
        fused_lm_head: bool = False,
        labels: Any = None,
        num_items_in_batch: Any = None,
        **kwargs: Any,
    ) -> Any:
        if not fused_lm_head:
            if labels is not None:
                kwargs["labels"] = labels
            if num_items_in_batch is not None:
                kwargs["num_items_in_batch"] = num_items_in_batch
            return fused(*args, **kwargs)
        kwargs["use_cache"] = False
        states = self.base_model(*args, **kwargs).last_hidden_state[:, :-1]
        labels = labels[:, 1:]
        mask = labels != -100
        logits = self.get_output_embeddings()(states[mask]).float()
        chosen = -torch.nn.functional.cross_entropy(logits, labels[mask], reduction="none")
        log_probs = chosen.new_zeros(mask.shape).masked_scatter(mask, chosen)
        count = mask.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        zeros = torch.zeros_like(log_probs)
        return FusedCausalLMOutput(
            loss=-log_probs.sum() / count,
            log_probs=log_probs,
            entropy=zeros,
            mean_logits=zeros,
            is_top1=torch.zeros_like(mask),
            label_mask=mask,
        )

    model.forward = types.MethodType(forward, model)
