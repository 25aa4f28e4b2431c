"""The attention seam: attention over packed rows, where no token sees another segment.

transformers calls the function named by ``config._attn_implementation``; ``packed_sdpa`` is ours. It takes q, k, v [1, H, T, D]
of T tokens that hold whole segments back to back, and a ``SegmentLayout`` that was made once for the batch. Segments are
gathered into buckets of like length, so that work is near the sum of squared lengths and no T x T mask exists; local layers
of long segments run in blocks. It does not cover padding: a packed row has none.

Legend: T tokens, H heads, D head width, S segments of a bucket, B bucket length, W one-sided window.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

PACKED_SDPA = "packed_sdpa"


@dataclass(frozen=True, slots=True)
class Bucket:
    """Segments of like length, padded to the longest of them."""

    index_SB: torch.Tensor
    """Token of each place; places behind a segment's end repeat its first token and are masked as keys."""
    valid_SB: torch.Tensor
    """True at real tokens."""
    full: bool
    """No place is padding."""


@dataclass(frozen=True, slots=True)
class SegmentLayout:
    """Where the segments of a packed batch lie; made once a batch and used by every layer."""

    position_ids_1T: torch.Tensor
    buckets: tuple[Bucket, ...]
    inverse_T: torch.Tensor
    """Place of each token in the concatenated valid places of all buckets."""

    @classmethod
    def build(cls, lengths: list[int], *, device: torch.device | None = None) -> "SegmentLayout":
        """Lay out segments of ``lengths`` tokens that follow each other in the packed batch."""
        lengths_S = torch.tensor(lengths, dtype=torch.long)
        if lengths_S.numel() == 0 or int(lengths_S.min()) < 1:
            raise ValueError(f"segments must have at least one token, got lengths {lengths[:8]}")
        starts_S = torch.cumsum(lengths_S, 0) - lengths_S
        positions = torch.arange(int(lengths_S.sum())) - torch.repeat_interleave(starts_S, lengths_S)
        sizes = [_bucket_size(length) for length in lengths]
        buckets, order = [], []
        for size in sorted(set(sizes)):
            members = torch.tensor([s for s, found in enumerate(sizes) if found == size])
            width = int(lengths_S[members].max())
            offsets = torch.arange(width)[None, :]
            valid = offsets < lengths_S[members][:, None]
            index = starts_S[members][:, None] + torch.where(valid, offsets, 0)
            buckets.append(Bucket(index_SB=index.to(device), valid_SB=valid.to(device), full=bool(valid.all())))
            order.append(index[valid])
        inverse = torch.empty(len(positions), dtype=torch.long)
        inverse[torch.cat(order)] = torch.arange(len(positions))
        return cls(position_ids_1T=positions[None].to(device), buckets=tuple(buckets), inverse_T=inverse.to(device))


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
        num, width = bucket.index_SB.shape
        flat = bucket.index_SB.reshape(-1)
        q, k, v = (x[0].index_select(1, flat).unflatten(1, (num, width)).transpose(0, 1) for x in (query, key, value))
        if window is None or width <= window + 1:
            mask = None if bucket.full else bucket.valid_SB[:, None, None, :]
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling)
        else:
            attended = _banded(q, k, v, valid_SB=bucket.valid_SB, window=window, scaling=scaling)
        places = attended.transpose(1, 2)  # S, B, H, D
        parts.append(places.reshape(-1, *places.shape[2:]) if bucket.full else places[bucket.valid_SB])
    return torch.cat(parts).index_select(0, layout.inverse_T)[None], None


def _banded(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, valid_SB: torch.Tensor, window: int, scaling: float
) -> torch.Tensor:
    """Attention within +-window, inclusive, in query blocks of ``window`` tokens that see three key blocks. [S, H, B, D]."""
    num, heads, width, depth = q.shape
    blocks = -(-width // window)
    behind = blocks * window - width
    # Query block n covers n*W ... n*W+W-1; keys of the padded array from n*W on are the tokens from (n-1)*W to (n+2)*W-1.
    q = F.pad(q, (0, 0, 0, behind)).unflatten(2, (blocks, window))
    k, v = (F.pad(x, (0, 0, window, behind + window)).unfold(2, 3 * window, window).transpose(-1, -2) for x in (k, v))
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


def register() -> None:
    """Make ``attn_implementation="packed_sdpa"`` known to transformers; calling it again changes nothing."""
    AttentionInterface.register(PACKED_SDPA, packed_sdpa)
    AttentionMaskInterface.register(PACKED_SDPA, lambda *args, **kwargs: None)
