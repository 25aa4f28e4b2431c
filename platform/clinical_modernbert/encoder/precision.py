"""The arithmetic of a model's products: float32, or bfloat16 through autocast over float32 weights.

Training, its held-out scores and evaluation runs take it from here, because a kernel that needs half precision (flash-attn)
needs it in every pass, not in the loss only.
"""

import torch

from clinical_modernbert.recipe.vocabulary import Precision


def products_in(precision: Precision, device: torch.device) -> torch.autocast:
    """Return a context in which models on ``device`` multiply in ``precision``."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def has_bfloat16(device: torch.device) -> bool:
    """Return whether ``device`` multiplies bfloat16 natively; a CPU without it emulates it slower than float32."""
    if device.type == "cuda":
        # From compute capability 8.0 (A100) on; is_bf16_supported() also counts emulation.
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False
