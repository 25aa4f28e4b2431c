"""Estimate of a run on GPUs that are not available: speed, time to exchange gradients, days and cost.

Computed from the operations of a step, an assumed share of the peak, and a ring of links between nodes. Reading data, slow
workers and restarts are left out. docs/scaling.md states which inputs were measured.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from clinical_modernbert.training.meter import step_flops

GRADIENT_BYTES = 4  # the engines exchange float32, whatever autocast multiplies in


@dataclass(frozen=True, slots=True)
class Cluster:
    """GPUs of one kind in equal nodes; the defaults are A100s (SXM, 80 GB) with 100 Gbit/s between nodes."""

    num_nodes: int
    gpus_per_node: int = 8
    peak_flops: float = 312e12
    """Dense bfloat16 operations a second of one GPU, by the maker's data sheet."""
    utilisation: float = 0.4
    """Share of the peak that useful operations reach within a node: an assumption."""
    node_link_bytes_per_s: float = 12.5e9
    """Bandwidth from one node to the next; inside a node NVLink hides the exchange."""
    dollars_per_gpu_hour: float = 2.0

    @property
    def num_gpus(self) -> int:
        """GPUs of the whole cluster."""
        return self.num_nodes * self.gpus_per_node


@dataclass(frozen=True, slots=True)
class Estimate:
    """Speed, time and cost of a run."""

    flops_per_token: float
    compute_s: float
    """Of one step."""
    exchange_s: float
    """Of one step's gradients between nodes, after the last micro-batch and not hidden."""
    tokens_per_second: float
    days: float
    dollars: float


def estimate(
    config: Any,
    cluster: Cluster,
    *,
    num_tokens: float,
    segment_length: int,
    batch_tokens: int,
    mask_rate: float,
    num_parameters: int,
) -> Estimate:
    """Return speed and price of ``num_tokens`` tokens in segments of ``segment_length``, ``batch_tokens`` of them a step.

    A ring over n nodes sends each gradient 2 (n - 1) / n times over a node's link (Patarasuk and Yuan, 2009).
    """
    segment_S = np.array([segment_length])
    # The head counts by masked token, of which a segment has no whole number.
    body, with_one = (step_flops(config, segment_S, num_masked=masked) for masked in (0, 1))
    flops_per_token = body / segment_length + mask_rate * (with_one - body)
    compute_s = batch_tokens * flops_per_token / (cluster.num_gpus * cluster.peak_flops * cluster.utilisation)
    rounds = 2 * (cluster.num_nodes - 1) / cluster.num_nodes
    exchange_s = rounds * num_parameters * GRADIENT_BYTES / cluster.node_link_bytes_per_s
    speed = batch_tokens / (compute_s + exchange_s)
    gpu_hours = num_tokens / speed / 3600 * cluster.num_gpus
    return Estimate(
        flops_per_token=flops_per_token,
        compute_s=compute_s,
        exchange_s=exchange_s,
        tokens_per_second=speed,
        days=num_tokens / speed / 86_400,
        dollars=gpu_hours * cluster.dollars_per_gpu_hour,
    )
