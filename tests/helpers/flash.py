"""A stand-in for flash-attn on a CPU: its documented contract in plain torch, and its refusal of float32."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from clinical_modernbert.encoder.attention import REGISTERED_AS
from clinical_modernbert.training import start


def install_flash(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Make ``scaling.attention=flash_varlen`` run without a GPU; return the list to which each call adds its dtype."""
    dtypes: list[torch.dtype] = []

    def varlen(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **arguments: Any) -> torch.Tensor:
        for tensor in (q, k, v):
            if tensor.dtype not in (torch.float16, torch.bfloat16):
                raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
        dtypes.append(q.dtype)
        lengths, window = arguments["cu_seqlens_q"].diff().tolist(), arguments["window_size"][0]
        parts = []
        for a, b, c in zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True):
            ahead = torch.arange(len(a))[None, :] - torch.arange(len(a))[:, None]
            hidden = ahead.abs() > window if window >= 0 else torch.zeros_like(ahead, dtype=torch.bool)
            hidden |= (ahead > 0) & arguments["causal"]
            scores = torch.einsum("qhd,khd->hqk", a.float(), b.float()) * arguments["softmax_scale"]
            weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
            parts.append(torch.einsum("hqk,khd->qhd", weights, c.float()).to(v.dtype))
        return torch.cat(parts)

    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_varlen_func=varlen))
    monkeypatch.setattr(start, "use_attention", lambda model, name: model.set_attn_implementation(REGISTERED_AS[name]))
    return dtypes
