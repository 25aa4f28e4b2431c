"""Attention over packed rows by kernels for segments of many lengths, in half precision on a GPU.

Both are FlashAttention-2 over the layout's order: ``torch_varlen`` is the kernel in torch itself, ``flash_varlen`` that of the
package flash-attn, whose installation needs a compiler. The only module that imports flash_attn.

Legend: T tokens, H heads, D head width.
"""

import torch

from clinical_modernbert.encoder.segments import SegmentLayout, checked_layout

TORCH_VARLEN = "torch_varlen"
FLASH_VARLEN = "flash_varlen"


def torch_varlen(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    sliding_window: int | None = None,
    dropout: float = 0.0,
    layout: SegmentLayout | None = None,
    first_only: bool = False,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """Return what ``packed_sdpa`` does, from ``torch.nn.attention.varlen``."""
    layout = checked_layout(TORCH_VARLEN, layout, attention_mask=attention_mask, query=query)
    if dropout:
        raise ValueError(f"{TORCH_VARLEN} has no attention dropout; set attention_dropout to 0 in the model's config")
    from torch.nn.attention import varlen

    q, k, v = _half_precision(query, key, value)
    longest = max(layout.lengths)
    # (-1, 0) is causal attention without a window; a window (W, 0) is causal itself.
    window = (-1, 0 if layout.causal else -1) if sliding_window is None else _window(layout, sliding_window)
    ends = layout.cu_lengths
    attended = varlen.varlen_attn(q, k, v, ends, ends, longest, longest, scale=scaling, window_size=window)
    assert isinstance(attended, torch.Tensor), "no auxiliary output was asked for"
    return _rows(attended, layout, first_only=first_only), None


def flash_varlen(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    sliding_window: int | None = None,
    dropout: float = 0.0,
    deterministic: bool = False,
    layout: SegmentLayout | None = None,
    first_only: bool = False,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """Return what ``packed_sdpa`` does, from flash-attn's variable-length kernel."""
    layout = checked_layout(FLASH_VARLEN, layout, attention_mask=attention_mask, query=query)
    from flash_attn import flash_attn_varlen_func  # type: ignore[import-not-found]  # GPU machines only

    q, k, v = _half_precision(query, key, value)
    longest = max(layout.lengths)
    window = (-1, -1) if sliding_window is None else _window(layout, sliding_window)
    attended = flash_attn_varlen_func(
        q,
        k,
        v,
        cu_seqlens_q=layout.cu_lengths,
        cu_seqlens_k=layout.cu_lengths,
        max_seqlen_q=longest,
        max_seqlen_k=longest,
        dropout_p=dropout,
        softmax_scale=scaling,
        causal=layout.causal,
        window_size=window,
        deterministic=deterministic,
    )
    return _rows(attended, layout, first_only=first_only), None


def _half_precision(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return q, k, v [T, H, D] in the type of v: under autocast RoPE gives q and k in float32, which the kernels refuse."""
    q, k, v = (x[0].transpose(0, 1).to(value.dtype) for x in (query, key, value))
    return q, k, v


def _window(layout: SegmentLayout, sliding_window: int) -> tuple[int, int]:
    """Return the tokens seen on the left and on the right, inclusive; ``sliding_window`` is one more."""
    return sliding_window - 1, layout.reach(sliding_window - 1)


def _rows(attended_THD: torch.Tensor, layout: SegmentLayout, *, first_only: bool) -> torch.Tensor:
    return (attended_THD.index_select(0, layout.cu_lengths[:-1]) if first_only else attended_THD)[None]
