"""A training worker: one process of a group, its exchanges with the others, and the arithmetic of its hardware.

Every worker of the group must call each of these functions, in the same order; alone, a worker exchanges nothing.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist

from clinical_modernbert.encoder import Precision, has_bfloat16


@dataclass(frozen=True, slots=True)
class Worker:
    """One of the processes that train together."""

    rank: int
    world_size: int
    device: torch.device


def sum_over_workers(values: torch.Tensor, worker: Worker) -> torch.Tensor:
    """Return the sum of every worker's ``values``."""
    if worker.world_size > 1:
        values = values.to(worker.device)
        dist.all_reduce(values)
    return values


def from_first_worker(value: Any, worker: Worker) -> Any:
    """Return the value that rank 0 passed."""
    if worker.world_size == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather_from_workers(value: Any, worker: Worker) -> list[Any]:
    """Return the values of all workers in the order of their ranks."""
    if worker.world_size == 1:
        return [value]
    boxes: list[Any] = [None] * worker.world_size
    dist.all_gather_object(boxes, value)
    return boxes


def resolve_precision(setting: Literal["auto", "float32", "bfloat16"], *, worker: Worker) -> Precision:
    """Return ``setting``; for ``auto``, bfloat16 if the hardware of all workers multiplies it, else float32."""
    if setting != "auto":
        return setting
    able = torch.tensor(int(has_bfloat16(worker.device)), device=worker.device)
    if worker.world_size > 1:
        dist.all_reduce(able, op=dist.ReduceOp.MIN)
    return "bfloat16" if int(able) else "float32"
