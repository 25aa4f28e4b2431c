"""The layers of a ModernBERT over a packed row: transformers' modules hold the weights, ``run_layers`` is the forward pass.

Values equal transformers' own to rounding. Its forward spends a third of a step on a CPU outside of matrix products: on copies
of q and k for the rotation, and on a zero tensor for the gradient of each slice. Here q and k are rotated in the projection's
memory, and after the last attention layer only the requested tokens are computed.

Legend: T tokens in the layout's order, N requested tokens, D hidden width, H heads, K head width, C = 3 D.
"""

from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import ModernBertModel

from clinical_modernbert.encoder.attention import packed_attention_of
from clinical_modernbert.encoder.segments import SegmentLayout


def run_layers(
    model: ModernBertModel,
    hidden_TD: torch.Tensor,
    layout: SegmentLayout,
    *,
    requested_N: torch.Tensor | None = None,
    first_only: bool = False,
) -> torch.Tensor:
    """Return states after the final norm: of all tokens, of the places ``requested_N``, or of each segment's first token."""
    positions_1T = layout.position_ids_1T if layout.in_order else layout.position_ids_1T[:, layout.order_T]
    rotary = {kind: model.rotary_emb(hidden_TD, positions_1T, kind) for kind in set(model.config.layer_types)}
    attend = packed_attention_of(model)
    if first_only:
        requested_N = layout.cu_lengths[:-1]
    for layer in model.layers:
        is_last = layer is model.layers[-1]
        run = partial(
            _run_layer,
            layer,
            rotary=rotary[layer.attention_type],
            attend=attend,
            layout=layout,
            requested_N=requested_N if is_last else None,
            first_only=first_only and is_last,
        )
        # Activation checkpointing: keep the layer's input only, and compute the layer again in the backward pass.
        recompute = layer.gradient_checkpointing and layer.training and torch.is_grad_enabled()
        hidden_TD = checkpoint(run, hidden_TD, use_reentrant=False) if recompute else run(hidden_TD)
    return model.final_norm(hidden_TD)


def _run_layer(
    layer: Any,
    hidden_TD: torch.Tensor,
    *,
    rotary: tuple[torch.Tensor, torch.Tensor],
    attend: Any,
    layout: SegmentLayout,
    requested_N: torch.Tensor | None,
    first_only: bool,
) -> torch.Tensor:
    # Attention, pre-norm.
    attention = layer.attn
    qkv_TC = attention.Wqkv(layer.attn_norm(hidden_TD))
    q, k, v = _Heads.apply(qkv_TC, *rotary)  # type: ignore[no-untyped-call]  # torch types it so
    attended, _ = attend(
        attention,
        *(x.transpose(0, 1)[None] for x in (q, k, v)),
        None,
        scaling=attention.head_dim**-0.5,
        sliding_window=attention.sliding_window,
        dropout=attention.attention_dropout if attention.training else 0.0,
        layout=layout,
        first_only=first_only,
    )
    attended_TD = attended[0].flatten(1)
    # The remaining steps work token by token, so the last layer needs the requested tokens only.
    if requested_N is not None:
        hidden_TD = hidden_TD.index_select(0, requested_N)
        if not first_only:
            attended_TD = attended_TD.index_select(0, requested_N)
    hidden_TD = hidden_TD + attention.out_drop(attention.Wo(attended_TD))
    return hidden_TD + layer.mlp(layer.mlp_norm(hidden_TD))


class _Heads(torch.autograd.Function):
    """The projection's output [T, C] as q, k, v [T, H, K], with q and k rotated in place."""

    @staticmethod
    def forward(ctx: Any, qkv_TC: torch.Tensor, cos_1TK: torch.Tensor, sin_1TK: torch.Tensor) -> Any:
        ctx.cos, ctx.sin = (x[0, :, None, None, : x.shape[-1] // 2] for x in (cos_1TK, sin_1TK))
        qkv = qkv_TC.view(len(qkv_TC), 3, -1, cos_1TK.shape[-1])
        _rotate(qkv[:, :2], ctx.cos, ctx.sin)
        return qkv.unbind(1)

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> Any:
        gradient = torch.stack(outputs, dim=1)
        _rotate(gradient[:, :2], ctx.cos, -ctx.sin)  # the inverse of a rotation turns back
        return gradient.flatten(1), None, None


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Rotate pairs (i, i + K/2) of [T, 2, H, K] in place, in float32 for any dtype, as transformers does."""
    wide = x.float()
    first, second = wide.chunk(2, dim=-1)
    turned = first * sin
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).add_(turned)
    if wide is not x:
        x.copy_(wide)
