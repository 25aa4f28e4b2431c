"""How fast a run goes and what holds it up: measured beside the steps, and never part of what they compute.

Speeds are of the time in steps and in waiting for their batches; evaluation and checkpoints stand outside it. Useful operations
are those of ``flops``; MFU is their rate over the peak of all workers' hardware, and None where that peak is not known.
"""

import resource
import sys

import torch

from clinical_modernbert.recipe.pretrain import TrainScaling
from clinical_modernbert.training.precision import Precision
from clinical_modernbert.training.worker import Worker

# Dense bfloat16 peaks by the makers' data sheets, in 10^12 operations a second; a device's name holds the key.
_BFLOAT16_TERAFLOPS = {"A100": 312.0, "H100 PCIe": 756.0, "H100": 989.0, "H200": 989.0}


def peak_flops(scaling: TrainScaling, worker: Worker, precision: Precision) -> float | None:
    """Return one worker's peak in operations a second: the recipe's, else a known GPU's in bfloat16, else None."""
    if scaling.peak_teraflops is not None:
        return scaling.peak_teraflops * 1e12
    if worker.device.type != "cuda" or precision != "bfloat16":
        return None
    name = torch.cuda.get_device_name(worker.device)
    return next((peak * 1e12 for key, peak in _BFLOAT16_TERAFLOPS.items() if key in name), None)


class Meter:
    """Sums over the steps since the last reading; the first step of a process is left out, for it pays for warm-up."""

    def __init__(self, *, peak: float | None) -> None:
        self._peak = peak
        self._warm = False
        self._clear()

    def _clear(self) -> None:
        self._num_tokens, self._flops, self._step_s, self._wait_s = 0, 0.0, 0.0, 0.0

    def add(self, *, num_tokens: int, flops: float, step_s: float, wait_s: float) -> None:
        """Count one step: tokens and operations of the global batch, seconds computing, seconds waiting for the batch."""
        if self._warm:
            self._num_tokens += num_tokens
            self._flops += flops
            self._step_s += step_s
            self._wait_s += wait_s
        self._warm = True

    def read(self, worker: Worker) -> dict[str, float | int | None]:
        """Return the figures since the last reading: None for those of which nothing was measured yet."""
        seconds = self._step_s + self._wait_s
        speed = self._flops / seconds if seconds else None
        found: dict[str, float | int | None] = {
            "tokens_per_second": self._num_tokens / seconds if seconds else None,
            "flops_per_second": speed,
            "mfu": speed / (self._peak * worker.world_size) if speed and self._peak else None,
            "data_wait": self._wait_s / seconds if seconds else None,
            "memory_bytes": peak_memory(worker.device),
        }
        self._clear()
        return found


def peak_memory(device: torch.device) -> int:
    """Return the largest memory in bytes so far: the GPU's allocated, or this process's resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # In KiB, except on macOS (getrusage(2)).
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
