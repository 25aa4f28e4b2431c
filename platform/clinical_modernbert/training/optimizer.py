"""The recipe's optimizer over two groups: weight decay on matrices, none on norms and biases."""

import torch

from clinical_modernbert.recipe.pretrain import OptimizerSection
from clinical_modernbert.training.stable_adamw import StableAdamW


def build_optimizer(model: torch.nn.Module, section: OptimizerSection) -> torch.optim.Optimizer:
    """Return the optimizer with weight decay on matrices only: norms and biases have one dimension."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": section.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    betas = (section.beta1, section.beta2)
    if section.algorithm == "stable_adamw":
        return StableAdamW(groups, lr=section.learning_rate, betas=betas, eps=section.epsilon)
    return torch.optim.AdamW(groups, lr=section.learning_rate, betas=betas, eps=section.epsilon, fused=True)
