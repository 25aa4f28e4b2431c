"""A training worker: a rank and a world size, whoever started it."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Worker:
    """One of the processes that train together."""

    rank: int
    world_size: int
    device: torch.device
