"""The attention seam: attention over packed rows, where no token sees another segment.

transformers calls the function named by ``config._attn_implementation``. Both of ours take q, k, v [1, H, T, D] of T tokens
that hold whole segments back to back, and a ``SegmentLayout`` that was made once for the batch. ``packed_sdpa`` runs anywhere:
segments of like length lie together, so that a bucket is a view and work is near the sum of squared lengths; no T x T mask
exists, and local layers of long segments run in blocks. ``flash_varlen`` is flash-attn's kernel over the same order. Neither
covers padding: a packed row has none. The only module that imports flash_attn.

Legend: T tokens, H heads, D head width, S segments of a bucket, B bucket length, W one-sided window.
"""

import importlib.util
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from clinical_modernbert.errors import ModelError

PACKED_SDPA = "packed_sdpa"
FLASH_VARLEN = "flash_varlen"
# transformers takes every name with "flash" in it for a kernel of its own and looks for that on the hub.
REGISTERED_AS = {PACKED_SDPA: PACKED_SDPA, FLASH_VARLEN: "packed_varlen"}


@dataclass(frozen=True, slots=True)
class Bucket:
    """Segments of like length, which lie back to back in the layout's order."""

    start: int
    """Place of the first token."""
    end: int
    num_segments: int
    width: int
    """Tokens of the longest segment."""
    index_SB: torch.Tensor | None
    """Token of each place of the padded [S, B] grid, counted from ``start``; None where no segment is shorter than B.
    Places behind a segment's end repeat its first token and are masked as keys."""
    valid_SB: torch.Tensor | None
    """True at real tokens of the grid; None where all are."""
    kept_n: torch.Tensor | None
    """Places of the grid, flattened, that hold the bucket's tokens in their order."""


@dataclass(frozen=True, slots=True)
class SegmentLayout:
    """Where the segments of a packed batch lie; made once a batch and used by every layer."""

    position_ids_1T: torch.Tensor
    """Place of each token in its segment, in the batch's order."""
    buckets: tuple[Bucket, ...]
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

    @classmethod
    def build(cls, lengths: list[int], *, device: torch.device | None = None) -> "SegmentLayout":
        """Lay out segments of ``lengths`` tokens that follow each other in the packed batch."""
        lengths_S = np.asarray(lengths, dtype=np.int64)
        if lengths_S.size == 0 or int(lengths_S.min()) < 1:
            raise ValueError(f"segments must have at least one token, got lengths {lengths[:8]}")
        # Small integer work on a whole batch: NumPy's calls cost a fraction of torch's.
        starts_S = np.cumsum(lengths_S) - lengths_S
        positions = np.arange(int(lengths_S.sum())) - np.repeat(starts_S, lengths_S)
        sizes_S = np.fromiter((_bucket_size(length) for length in lengths), dtype=np.int64, count=len(lengths))
        sorted_S = np.argsort(sizes_S, kind="stable")
        inside_S = lengths_S[sorted_S]
        order = np.repeat(starts_S[sorted_S] - (np.cumsum(inside_S) - inside_S), inside_S) + np.arange(len(positions))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        cuts = [0, *(np.flatnonzero(np.diff(sizes_S[sorted_S])) + 1).tolist(), len(lengths)]
        buckets, start = [], 0
        for first, last in pairwise(cuts):
            buckets.append(_bucket(inside_S[first:last], start=start, device=device))
            start = buckets[-1].end
        cu_lengths = np.concatenate([[0], np.cumsum(inside_S)]).astype(np.int32)
        return cls(
            position_ids_1T=torch.from_numpy(positions)[None].to(device),
            buckets=tuple(buckets),
            order_T=torch.from_numpy(order).to(device),
            place_T=torch.from_numpy(place).to(device),
            in_order=bool((sorted_S[1:] > sorted_S[:-1]).all()),
            lengths=tuple(inside_S.tolist()),
            cu_lengths=torch.from_numpy(cu_lengths).to(device),
        )


def _bucket(lengths_S: NDArray[np.int64], *, start: int, device: torch.device | None) -> Bucket:
    """Lay out one bucket of segments that lie back to back from place ``start`` on."""
    num, width, end = len(lengths_S), int(lengths_S.max()), start + int(lengths_S.sum())
    if num * width == end - start:
        return Bucket(start, end, num_segments=num, width=width, index_SB=None, valid_SB=None, kept_n=None)
    offsets = np.arange(width)[None, :]
    valid = offsets < lengths_S[:, None]
    index = (np.cumsum(lengths_S) - lengths_S)[:, None] + np.where(valid, offsets, 0)
    index_SB, valid_SB, kept_n = (torch.from_numpy(x).to(device) for x in (index, valid, np.flatnonzero(valid)))
    return Bucket(start, end, num_segments=num, width=width, index_SB=index_SB, valid_SB=valid_SB, kept_n=kept_n)


def _bucket_size(length: int) -> int:
    """Round up so that padding wastes at most a quarter of a long segment and few buckets exist."""
    if length <= 128:
        return -(-length // 16) * 16
    step = 1 << ((length - 1).bit_length() - 3)
    return -(-length // step) * step


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
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """Return attention output [1, T, H, D]; each token attends to its own segment only.

    ``sliding_window`` as transformers hands it to an attention function: W + 1, where tokens at distance W are still seen.
    """
    if layout is None or attention_mask is not None or query.shape[0] != 1:
        raise ValueError(
            f"{PACKED_SDPA} needs one packed row, layout=SegmentLayout and no attention_mask: call encode_packed"
        )
    if dropout:
        raise ValueError(f"{PACKED_SDPA} has no attention dropout; set attention_dropout to 0 in the model's config")
    window = None if sliding_window is None else sliding_window - 1
    parts = []
    for bucket in layout.buckets:
        q, k, v = (_grid(x[0, :, bucket.start : bucket.end], bucket) for x in (query, key, value))
        if window is None or bucket.width <= window + 1:
            mask = None if bucket.valid_SB is None else bucket.valid_SB[:, None, None, :]
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling)
        else:
            attended = _banded(q, k, v, valid_SB=bucket.valid_SB, window=window, scaling=scaling)
        places = attended.transpose(1, 2).flatten(0, 1)  # S * B, H, D
        parts.append(places if bucket.kept_n is None else places.index_select(0, bucket.kept_n))
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[None], None


def _grid(x_HTD: torch.Tensor, bucket: Bucket) -> torch.Tensor:
    """Return the bucket's tokens as [S, H, B, D]: a view where every segment is as long as the longest, else a gather."""
    if bucket.index_SB is not None:
        x_HTD = x_HTD.index_select(1, bucket.index_SB.reshape(-1))
    return x_HTD.unflatten(1, (bucket.num_segments, bucket.width)).transpose(0, 1)


def _banded(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, valid_SB: torch.Tensor | None, window: int, scaling: float
) -> torch.Tensor:
    """Attention within +-window, inclusive, in query blocks of ``window`` tokens that see three key blocks. [S, H, B, D]."""
    num, heads, width, depth = q.shape
    blocks = -(-width // window)
    behind = blocks * window - width
    # Query block n covers n*W ... n*W+W-1; keys of the padded array from n*W on are the tokens from (n-1)*W to (n+2)*W-1.
    q = F.pad(q, (0, 0, 0, behind)).unflatten(2, (blocks, window))
    k, v = (F.pad(x, (0, 0, window, behind + window)).unfold(2, 3 * window, window).transpose(-1, -2) for x in (k, v))
    if valid_SB is None:
        valid_SB = torch.ones((num, width), dtype=torch.bool, device=q.device)
    seen_Sn = F.pad(valid_SB, (window, behind + window)).unfold(1, 3 * window, window)
    distance = (
        torch.arange(3 * window, device=q.device)[None, :] - torch.arange(window, device=q.device)[:, None] - window
    )
    mask = (distance.abs() <= window)[None, None] & seen_Sn[:, :, None, :]
    # Queries behind a segment's end see nothing; let them see all, for a softmax over nothing is NaN, and drop them after.
    mask = mask | ~mask.any(-1, keepdim=True)
    flat = (num * blocks, heads)
    q, k, v = (x.transpose(1, 2).reshape(*flat, -1, depth) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.reshape(flat[0], 1, window, 3 * window), scale=scaling)
    return out.unflatten(0, (num, blocks)).transpose(1, 2).flatten(2, 3)[:, :, :width]


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


def register() -> None:
    """Make both names known to transformers; calling it again changes nothing."""
    for name, function in ((PACKED_SDPA, packed_sdpa), (FLASH_VARLEN, flash_varlen)):
        AttentionInterface.register(REGISTERED_AS[name], function)
        AttentionMaskInterface.register(REGISTERED_AS[name], lambda *args, **kwargs: None)
