"""AdamW over two groups, and the learning rate as a function of the step."""

import math

import torch

from clinical_modernbert.recipe.pretrain import OptimizerSection


def learning_rate(step: int, *, num_steps: int, section: OptimizerSection) -> float:
    """Return the rate of ``step``: linear warm-up, then a cosine down to ``final_fraction`` of the peak at the last step."""
    warmup = round(section.warmup_fraction * num_steps)
    if step < warmup:
        return section.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(num_steps - 1 - warmup, 1)
    floor = section.final_fraction
    return section.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


def build_optimizer(model: torch.nn.Module, section: OptimizerSection) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices only: norms and biases have one dimension."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": section.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=section.learning_rate, betas=(section.beta1, section.beta2), eps=section.epsilon
    )
