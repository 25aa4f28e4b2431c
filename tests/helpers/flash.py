"""A stand-in for the GPU kernels on a CPU: their documented contract in plain torch, and their refusal of float32."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from clinical_modernbert.encoder.attention import REGISTERED_AS
from clinical_modernbert.training import start


def install_flash(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Make both kernels run without a GPU; return the list to which each call adds its dtype."""
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

    def of_torch(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, ends_q: torch.Tensor, ends_k: torch.Tensor,
        max_q: int, max_k: int, *, scale: float, window_size: tuple[int, int],
    ) -> torch.Tensor:  # fmt: skip
        left, right = window_size
        assert torch.equal(ends_q, ends_k) and max_q == max_k == int(ends_q.diff().max())
        return varlen(q, k, v, cu_seqlens_q=ends_q, window_size=(left, right), softmax_scale=scale, causal=right == 0)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", of_torch)
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_varlen_func=varlen))
    monkeypatch.setattr(start, "use_attention", lambda model, name: model.set_attn_implementation(REGISTERED_AS[name]))
    return dtypes
