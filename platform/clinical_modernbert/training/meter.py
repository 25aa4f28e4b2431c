"""Speed of a run: useful operations of a step, tokens and operations a second, and the time spent waiting for data.

Operations are floating-point operations that serve real tokens, forward and backward together: 6 for each weight of a linear
layer and token, 12 for each pair of tokens that attention sees and channel, the prediction head on masked tokens only. Padding,
recomputation, norms and the optimizer don't count (the convention of Chowdhery et al. 2022, arXiv 2204.02311, appendix B,
with the pairs counted as they are).

Speeds cover the time in steps and in waiting for their batches, without evaluation and checkpoints. MFU is the rate of useful
operations over the peak of all workers' hardware, and None if that peak is unknown.
"""

import resource
import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.encoder import Precision
from clinical_modernbert.recipe.training_run import TrainScaling
from clinical_modernbert.training.state import Speed
from clinical_modernbert.training.worker import Worker

# Dense bfloat16 peaks by the makers' data sheets, in 10^12 operations a second; a device's name holds the key.
_BFLOAT16_TERAFLOPS = {"A100": 312.0, "H100 PCIe": 756.0, "H100": 989.0, "H200": 989.0}


def step_flops(config: Any, lengths_S: NDArray[np.int64], *, num_masked: int, causal: bool = False) -> float:
    """Return the operations of one training step of a ModernBERT.

    ``config`` is transformers' ModernBertConfig, ``lengths_S`` the tokens of each segment, [CLS] and [SEP] included,
    ``num_masked`` the predicted tokens. ``causal`` attention sees half of the pairs.
    """
    width, inner = config.hidden_size, config.intermediate_size
    num_tokens = int(lengths_S.sum())
    linear = 6 * num_tokens * config.num_hidden_layers * (4 * width * width + 3 * width * inner)
    head = 6 * num_masked * (width * width + width * config.vocab_size)
    num_global = sum(kind == "full_attention" for kind in config.layer_types)
    num_local = config.num_hidden_layers - num_global
    pairs = num_global * attended_pairs(lengths_S, int(lengths_S.max()), causal=causal)
    pairs += num_local * attended_pairs(lengths_S, config.sliding_window, causal=causal)
    return float(linear + head + 12 * width * pairs)


def attended_pairs(lengths_S: NDArray[np.int64], window: int, *, causal: bool = False) -> int:
    """Return the number of (token, token that it sees) in segments of these lengths, within ``window`` tokens, inclusive."""
    # Each side of the diagonal has length-1, length-2, ... pairs at distance 1, 2, ..., up to the window.
    reach_S = np.minimum(lengths_S - 1, window)
    one_side_S = reach_S * lengths_S - reach_S * (reach_S + 1) // 2
    return int((lengths_S + (1 if causal else 2) * one_side_S).sum())


def peak_flops(scaling: TrainScaling, worker: Worker, precision: Precision) -> float | None:
    """Return one worker's peak in operations a second: the recipe's, else a known GPU's in bfloat16, else None."""
    if scaling.peak_teraflops is not None:
        return scaling.peak_teraflops * 1e12
    if worker.device.type != "cuda" or precision != "bfloat16":
        return None
    name = torch.cuda.get_device_name(worker.device)
    return next((peak * 1e12 for key, peak in _BFLOAT16_TERAFLOPS.items() if key in name), None)


class Meter:
    """Sums over the steps since the last reading, without the first step of a process, which includes warm-up."""

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

    def read(self, worker: Worker) -> Speed:
        """Return the speed since the last reading."""
        seconds = self._step_s + self._wait_s
        rate = self._flops / seconds if seconds else None
        speed = Speed(
            tokens_per_second=self._num_tokens / seconds if seconds else None,
            flops_per_second=rate,
            mfu=rate / (self._peak * worker.world_size) if rate and self._peak else None,
            data_wait=self._wait_s / seconds if seconds else None,
            memory_bytes=peak_memory(worker.device),
        )
        self._clear()
        return speed


def peak_memory(device: torch.device) -> int:
    """Return the largest memory in bytes so far: the GPU's allocated, or this process's resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # In KiB, except on macOS (getrusage(2)).
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
