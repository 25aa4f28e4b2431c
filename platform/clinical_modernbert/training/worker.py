"""A training worker: a rank and a world size, whoever started it."""

from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True, slots=True)
class Worker:
    """One of the processes that train together."""

    rank: int
    world_size: int
    device: torch.device


def sum_over_workers(values: torch.Tensor, worker: Worker) -> torch.Tensor:
    """Return the sum of every worker's ``values``; every worker calls it."""
    if worker.world_size > 1:
        values = values.to(worker.device)
        dist.all_reduce(values)
    return values
