"""The arithmetic of forward and backward, from the recipe or from what the hardware of every worker has."""

from typing import Literal

import torch
import torch.distributed as dist

from clinical_modernbert.training.worker import Worker

Precision = Literal["float32", "bfloat16"]


def resolve_precision(wanted: Literal["auto", "float32", "bfloat16"], *, worker: Worker) -> Precision:
    """Return ``wanted``; for ``auto``, bfloat16 where all workers' hardware multiplies it. Every worker calls it."""
    if wanted != "auto":
        return wanted
    able = torch.tensor(int(has_bfloat16(worker.device)), device=worker.device)
    if worker.world_size > 1:
        dist.all_reduce(able, op=dist.ReduceOp.MIN)
    return "bfloat16" if int(able) else "float32"


def has_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 natively; a CPU without it emulates it slower than float32."""
    if device.type == "cuda":
        # From compute capability 8.0 (A100) on; is_bf16_supported() also counts emulation.
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return False
