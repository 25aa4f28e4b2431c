"""The attention seam: attention over packed rows, where no token sees another segment.

transformers calls the function named by ``config._attn_implementation``, and so do we. Both of ours take q, k, v [1, H, T, D]
of T tokens that hold whole segments back to back, and a ``SegmentLayout`` that was made once for the batch. ``packed_sdpa``
runs anywhere: segments of one length lie together, so that a bucket is a view without padding or mask and work is the sum of
squared lengths; local layers take all long segments as one stream of blocks, so that no T x T mask exists. ``flash_varlen`` is
flash-attn's kernel over the same order. Neither covers padding: a packed row has none. The only module that imports flash_attn.

Legend: T tokens, H heads, D head width, S segments of a bucket, B bucket length, W one-sided window, N blocks of W tokens.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from clinical_modernbert.errors import ModelError

PACKED_SDPA = "packed_sdpa"
FLASH_VARLEN = "flash_varlen"
# transformers takes every name with "flash" in it for a kernel of its own and looks for that on the hub.
REGISTERED_AS = {PACKED_SDPA: PACKED_SDPA, FLASH_VARLEN: "packed_varlen"}


# Local layers take segments of up to this many windows whole, with a band for a mask: cheaper than blocks that see three windows.
_DENSE_WINDOWS = 3


@dataclass(frozen=True, slots=True)
class Bucket:
    """Segments of one length, which lie back to back in the layout's order."""

    num_segments: int
    width: int
    """Tokens of each."""


@dataclass(frozen=True, slots=True)
class SegmentLayout:
    """Where the segments of a packed batch lie; made once a batch and used by every layer."""

    position_ids_1T: torch.Tensor
    """Place of each token in its segment, in the batch's order."""
    buckets: tuple[Bucket, ...]
    """Shortest first."""
    order_T: torch.Tensor
    """Token at each place of the layout's order, in which the segments of a bucket lie together."""
    place_T: torch.Tensor
    """Place of each token: the inverse of ``order_T``."""
    in_order: bool
    """The layout's order is the batch's."""
    lengths: tuple[int, ...]
    """Tokens of each segment, in the layout's order."""
    cu_lengths: torch.Tensor
    """Where each segment of the layout's order starts, and the end of the last; int32 [segments + 1]."""
    segment_of_S: torch.Tensor
    """Which of the batch's segments each one of the layout's order is."""
    masks: dict[tuple[int, int], torch.Tensor]
    """What local layers may see, filled in by the first of them: True where a key is seen."""

    @classmethod
    def build(cls, lengths: list[int], *, device: torch.device | None = None) -> "SegmentLayout":
        """Lay out segments of ``lengths`` tokens that follow each other in the packed batch."""
        lengths_S = np.asarray(lengths, dtype=np.int64)
        if lengths_S.size == 0 or int(lengths_S.min()) < 1:
            raise ValueError(f"segments must have at least one token, got lengths {lengths[:8]}")
        # Small integer work on a whole batch: NumPy's calls cost a fraction of torch's.
        starts_S = np.cumsum(lengths_S) - lengths_S
        positions = np.arange(int(lengths_S.sum())) - np.repeat(starts_S, lengths_S)
        sorted_S = np.argsort(lengths_S, kind="stable")
        inside_S = lengths_S[sorted_S]
        order = np.repeat(starts_S[sorted_S] - (np.cumsum(inside_S) - inside_S), inside_S) + np.arange(len(positions))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        widths, counts = np.unique(inside_S, return_counts=True)
        cu_lengths = np.concatenate([[0], np.cumsum(inside_S)]).astype(np.int32)
        return cls(
            position_ids_1T=torch.from_numpy(positions)[None].to(device),
            buckets=tuple(Bucket(int(count), width=int(width)) for width, count in zip(widths, counts, strict=True)),
            order_T=torch.from_numpy(order).to(device),
            place_T=torch.from_numpy(place).to(device),
            in_order=bool((sorted_S[1:] > sorted_S[:-1]).all()),
            lengths=tuple(inside_S.tolist()),
            cu_lengths=torch.from_numpy(cu_lengths).to(device),
            segment_of_S=torch.from_numpy(sorted_S).to(device),
            masks={},
        )


def packed_sdpa(
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
    """Return attention output [1, T, H, D]; each token attends to its own segment only.

    ``sliding_window`` as transformers hands it to an attention function: W + 1, where tokens at distance W are still seen.
    ``first_only`` asks for the first token of each segment alone: [1, segments, H, D].
    """
    if layout is None or attention_mask is not None or query.shape[0] != 1:
        raise ValueError(
            f"{PACKED_SDPA} needs one packed row, layout=SegmentLayout and no attention_mask: call encode_packed"
        )
    if dropout:
        raise ValueError(f"{PACKED_SDPA} has no attention dropout; set attention_dropout to 0 in the model's config")
    window = None if sliding_window is None else sliding_window - 1
    whole = layout.buckets
    if window is not None and not first_only:
        whole = tuple(bucket for bucket in whole if bucket.width <= _DENSE_WINDOWS * window)
    sizes = [bucket.num_segments * bucket.width for bucket in whole]
    rest = query.shape[2] - sum(sizes)
    # split, not slices: its gradient is one concatenation, that of a slice a tensor of zeros as large as the batch.
    pieces = [x[0].transpose(0, 1).split([*sizes, rest]) for x in (query, key, value)]
    parts = []
    for bucket, *qkv in zip(whole, *(piece[:-1] for piece in pieces), strict=True):
        q, k, v = (x.unflatten(0, (bucket.num_segments, bucket.width)).transpose(1, 2) for x in qkv)
        mask = None
        if first_only:
            q = q[:, :, :1]
            if window is not None:
                k, v = k[:, :, : window + 1], v[:, :, : window + 1]
        elif window is not None and bucket.width > window + 1:
            mask = _band_mask(layout, width=bucket.width, window=window)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling)
        parts.append(attended.transpose(1, 2).flatten(0, 1))  # S * B, H, D
    if rest:
        q, k, v = (piece[-1] for piece in pieces)
        assert window is not None
        parts.append(_banded(q, k, v, mask=_stream_mask(layout, num_tokens=rest, window=window), scaling=scaling))
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[None], None


def _band_mask(layout: SegmentLayout, *, width: int, window: int) -> torch.Tensor:
    """Return [B, B]: keys at distance of at most W."""
    if (width, window) not in layout.masks:
        places = torch.arange(width, device=layout.place_T.device)
        layout.masks[width, window] = (places[:, None] - places[None, :]).abs() <= window
    return layout.masks[width, window]


def _stream_mask(layout: SegmentLayout, *, num_tokens: int, window: int) -> torch.Tensor:
    """Return [N, 1, W, 3 W] for the last ``num_tokens`` tokens: keys of the query's segment at distance of at most W."""
    if (0, window) not in layout.masks:
        blocks = -(-num_tokens // window)
        segments = np.repeat(np.arange(len(layout.lengths)), layout.lengths)[-num_tokens:]
        behind = blocks * window - num_tokens
        # Places before and behind the stream belong to no segment; queries behind it see each other, for a softmax
        # over nothing is NaN, and are dropped after.
        padded = np.concatenate([np.full(window, -1), segments, np.full(behind + window, -2)])
        keys = np.lib.stride_tricks.sliding_window_view(padded, 3 * window)[::window]  # N, 3 W
        queries = padded[window:-window].reshape(blocks, window)
        distance = np.arange(3 * window)[None, :] - np.arange(window)[:, None] - window
        seen = (queries[:, :, None] == keys[:, None, :]) & (np.abs(distance) <= window)
        layout.masks[0, window] = torch.from_numpy(seen[:, None]).to(layout.place_T.device)
    return layout.masks[0, window]


def _banded(
    q_THD: torch.Tensor, k_THD: torch.Tensor, v_THD: torch.Tensor, *, mask: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Attention within +-W, inclusive, over a stream of segments, in query blocks of W that see three key blocks. [T, H, D]."""
    blocks, _, window, _ = mask.shape
    behind = blocks * window - len(q_THD)
    q = F.pad(q_THD, (0, 0, 0, 0, 0, behind)).unflatten(0, (blocks, window)).transpose(1, 2)
    padded = (F.pad(x, (0, 0, 0, 0, window, behind + window)) for x in (k_THD, v_THD))
    k, v = (_Windows.apply(x, window) for x in padded)  # type: ignore[no-untyped-call]  # torch types it so
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling)
    return attended.transpose(1, 2).flatten(0, 1)[: len(q_THD)]


class _Windows(torch.autograd.Function):
    """Overlapping stretches of 3 W tokens, W apart: [(N + 2) W, H, D] -> [N, H, 3 W, D], a view; a gradient folds back."""

    @staticmethod
    def forward(ctx: Any, x_THD: torch.Tensor, window: int) -> torch.Tensor:
        ctx.window = window
        return x_THD.unfold(0, 3 * window, window).transpose(2, 3)

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> Any:
        grad_NKHD = outputs[0].transpose(1, 2)
        blocks, window = len(grad_NKHD), ctx.window
        folded = grad_NKHD.new_zeros((blocks + 2, window, *grad_NKHD.shape[2:]))
        for number, third in enumerate(grad_NKHD.split(window, dim=1)):
            folded[number : number + blocks] += third
        return folded.flatten(0, 1), None


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
    """The same over flash-attn's variable-length kernel: bfloat16 on a GPU, no padding at all."""
    if layout is None or attention_mask is not None or query.shape[0] != 1:
        raise ValueError(
            f"{FLASH_VARLEN} needs one packed row, layout=SegmentLayout and no attention_mask: call encode_packed"
        )
    from flash_attn import flash_attn_varlen_func  # type: ignore[import-not-found]  # GPU machines only

    # Under autocast q and k come back from RoPE in float32; the kernel takes half precision only.
    q, k, v = (x[0].transpose(0, 1).to(value.dtype) for x in (query, key, value))
    longest = max(layout.lengths)
    window = (-1, -1) if sliding_window is None else (sliding_window - 1, sliding_window - 1)  # inclusive on both sides
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
        causal=False,
        window_size=window,
        deterministic=deterministic,
    )
    if first_only:
        attended = attended.index_select(0, layout.cu_lengths[:-1])
    return attended[None], None


def use_attention(model: PreTrainedModel, name: str) -> None:
    """Let ``model`` attend by ``packed_sdpa`` or ``flash_varlen``; raises ``ModelError`` where the machine can't."""
    register()
    if name == FLASH_VARLEN:
        if model.device.type != "cuda":
            raise ModelError(
                f"scaling.attention={FLASH_VARLEN} needs a GPU, the model lies on {model.device.type}: "
                f"set scaling.use_gpu=true, or scaling.attention={PACKED_SDPA}, which runs anywhere"
            )
        if importlib.util.find_spec("flash_attn") is None:
            raise ModelError(
                f"scaling.attention={FLASH_VARLEN} needs the package flash-attn (pip install clinical-modernbert[gpu]); "
                f"scaling.attention={PACKED_SDPA} does without"
            )
    model.set_attn_implementation(REGISTERED_AS[name])


_FUNCTIONS = {REGISTERED_AS[PACKED_SDPA]: packed_sdpa, REGISTERED_AS[FLASH_VARLEN]: flash_varlen}


def packed_attention_of(model: PreTrainedModel) -> Callable[..., tuple[torch.Tensor, None]]:
    """Return the model's packed attention; raises ``ValueError`` where it has another, which would let segments mix."""
    name = model.config._attn_implementation
    if name not in _FUNCTIONS:
        raise ValueError(f"the model attends by {name}, which does not keep segments apart: call use_attention")
    return _FUNCTIONS[name]


def register() -> None:
    """Make both names known to transformers; calling it again changes nothing."""
    for name, function in _FUNCTIONS.items():
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, lambda *args, **kwargs: None)
