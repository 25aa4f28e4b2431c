"""Attention over packed rows, where no token sees another segment.

Functions with one signature, named by ``config._attn_implementation`` as in transformers. Both take q, k, v [1, H, T, D] of
T tokens in whole segments back to back, and a ``SegmentLayout``, which is built once a batch. In a causal layout a token sees
itself and those before it in its segment. Padding is not covered: a packed row has none.

- ``packed_sdpa`` runs anywhere. Segments of one length are adjacent and make a bucket, a view without padding or mask; the work
  is the sum of squared lengths. Local layers read all long segments as one stream of blocks, so that no T x T mask exists.
- ``torch_varlen`` and ``flash_varlen`` are kernels over the same order, for half precision on a GPU (``encoder/varlen.py``).

A local layer, W = 4, over a segment a of 6 tokens and a segment b of 5 (drawn as one stream; real streams hold long segments):

    stream     a a a a | a a b b | b b b      blocks of W queries
    block 0    keys . . . .  a a a a  a a b b      a block reads the keys of three blocks: the one before,
    block 1    keys a a a a  a a b b  b b b .      its own and the one after; "." is outside of the stream
    block 2    keys a a b b  b b b .  . . . .

    mask of    query a    x x x x  x x - -  - - - -      a band of 2 W + 1 keys around each query,
    block 1    query a    - x x x  x x - -  - - - -      cut where the segment ends
               query b    - - - -  - - x x  x x x -
               query b    - - - -  - - x x  x x x -

Legend: T tokens, H heads, D head width, S segments of a bucket, B bucket length, W one-sided window, N blocks of W tokens.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from clinical_modernbert.encoder.segments import SegmentLayout, checked_layout
from clinical_modernbert.encoder.varlen import FLASH_VARLEN, TORCH_VARLEN, flash_varlen, torch_varlen
from clinical_modernbert.errors import ModelError

PACKED_SDPA = "packed_sdpa"
# transformers treats every name with "flash" in it as one of its own kernels and looks for that on the hub.
REGISTERED_AS = {PACKED_SDPA: PACKED_SDPA, TORCH_VARLEN: TORCH_VARLEN, FLASH_VARLEN: "packed_varlen"}

# Local layers read segments of up to this many windows whole, with a band mask: cheaper than blocks that read three windows.
_DENSE_WINDOWS = 3


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

    ``sliding_window`` is W + 1, as transformers passes it to attention functions: tokens at distance W are seen.
    ``first_only`` computes the first token of each segment only: [1, segments, H, D].
    """
    layout = checked_layout(PACKED_SDPA, layout, attention_mask=attention_mask, query=query)
    if dropout:
        raise ValueError(f"{PACKED_SDPA} has no attention dropout; set attention_dropout to 0 in the model's config")
    window = None if sliding_window is None else sliding_window - 1
    # Buckets that are read whole: all of them in global layers, the short ones in local layers. The others are the stream,
    # the end of the layout's order, because buckets are sorted by length.
    whole = layout.buckets
    if window is not None and not first_only:
        whole = tuple(bucket for bucket in whole if bucket.width <= _DENSE_WINDOWS * window)
    sizes = [bucket.num_segments * bucket.width for bucket in whole]
    stream_tokens = query.shape[2] - sum(sizes)
    # split, not slices: the gradient of split is one concatenation, that of each slice a zero tensor as large as the batch.
    by_bucket = [x[0].transpose(0, 1).split([*sizes, stream_tokens]) for x in (query, key, value)]
    outputs = []
    for bucket, *qkv in zip(whole, *(tensors[:-1] for tensors in by_bucket), strict=True):
        q, k, v = (x.unflatten(0, (bucket.num_segments, bucket.width)).transpose(1, 2) for x in qkv)  # S, H, B, D
        mask = None
        if first_only:
            # One query a segment: its keys are the whole segment, or the first W + 1 tokens.
            q = q[:, :, :1]
            if window is not None:
                k, v = k[:, :, : window + 1], v[:, :, : window + 1]
        elif window is not None and bucket.width > window + 1:
            mask = _band_mask(layout, width=bucket.width, window=window)
        # A band mask is causal itself.
        causal = layout.causal and mask is None
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scaling)
        outputs.append(attended.transpose(1, 2).flatten(0, 1))  # S * B, H, D
    if stream_tokens:
        q, k, v = (tensors[-1] for tensors in by_bucket)
        assert window is not None
        stream_mask = _stream_mask(layout, num_tokens=stream_tokens, window=window)
        outputs.append(_banded(q, k, v, mask=stream_mask, scaling=scaling))
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs))[None], None


def _band_mask(layout: SegmentLayout, *, width: int, window: int) -> torch.Tensor:
    """Return [B, B]: True for keys at a distance of at most W; in a causal layout, of those not after the query."""
    if (width, window) not in layout.masks:
        places = torch.arange(width, device=layout.place_T.device)
        distance = places[None, :] - places[:, None]
        layout.masks[width, window] = (distance.abs() <= window) & (distance <= layout.reach(window))
    return layout.masks[width, window]


def _stream_mask(layout: SegmentLayout, *, num_tokens: int, window: int) -> torch.Tensor:
    """Return [N, 1, W, 3 W] for the last ``num_tokens`` tokens: True for keys of the query's segment within W."""
    if (0, window) not in layout.masks:
        # Fill the last block up to W tokens.
        blocks = -(-num_tokens // window)
        filling = blocks * window - num_tokens
        segments = np.repeat(np.arange(len(layout.lengths)), layout.lengths)[-num_tokens:]
        # Add a block of keys on either side. Added places belong to no segment: -1 before the stream, -2 after it. Queries
        # after the stream see each other, because a softmax over no key is NaN; _banded drops them.
        padded = np.concatenate([np.full(window, -1), segments, np.full(filling + window, -2)])
        keys = np.lib.stride_tricks.sliding_window_view(padded, 3 * window)[::window]  # N, 3 W
        queries = padded[window:-window].reshape(blocks, window)  # N, W
        # Query i of a block is key W + i of its three blocks.
        distance = np.arange(3 * window)[None, :] - np.arange(window)[:, None] - window
        within = (np.abs(distance) <= window) & (distance <= layout.reach(window))
        seen = (queries[:, :, None] == keys[:, None, :]) & within
        layout.masks[0, window] = torch.from_numpy(seen[:, None]).to(layout.place_T.device)
    return layout.masks[0, window]


def _banded(
    q_THD: torch.Tensor, k_THD: torch.Tensor, v_THD: torch.Tensor, *, mask: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Return attention [T, H, D] within W tokens, inclusive, over a stream of segments: blocks of W queries, 3 W keys each."""
    blocks, _, window, _ = mask.shape
    filling = blocks * window - len(q_THD)
    q = F.pad(q_THD, (0, 0, 0, 0, 0, filling)).unflatten(0, (blocks, window)).transpose(1, 2)  # N, H, W, D
    padded = (F.pad(x, (0, 0, 0, 0, window, filling + window)) for x in (k_THD, v_THD))
    k, v = (_Windows.apply(x, window) for x in padded)  # type: ignore[no-untyped-call]  # torch types it so
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scaling)
    return attended.transpose(1, 2).flatten(0, 1)[: len(q_THD)]


class _Windows(torch.autograd.Function):
    """Overlapping ranges of 3 W tokens, W apart: [(N + 2) W, H, D] -> [N, H, 3 W, D], a view.

    The gradient of a token is the sum over the three ranges that contain it.
    """

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


def use_attention(model: PreTrainedModel, name: str) -> None:
    """Make ``model`` attend by one of the three; raises ``ModelError`` if the machine cannot run it."""
    register()
    if name != PACKED_SDPA and model.device.type != "cuda":
        raise ModelError(
            f"scaling.attention={name} needs a GPU, the model is on {model.device.type}: "
            f"set scaling.use_gpu=true, or scaling.attention={PACKED_SDPA}, which runs anywhere"
        )
    if name == FLASH_VARLEN and importlib.util.find_spec("flash_attn") is None:
        raise ModelError(
            f"scaling.attention={FLASH_VARLEN} needs the package flash-attn (pip install clinical-modernbert[gpu]); "
            f"scaling.attention={TORCH_VARLEN} is the kernel in torch and needs no package"
        )
    model.set_attn_implementation(REGISTERED_AS[name])


_FUNCTIONS: dict[str, Callable[..., tuple[torch.Tensor, None]]] = {
    REGISTERED_AS[PACKED_SDPA]: packed_sdpa,
    REGISTERED_AS[TORCH_VARLEN]: torch_varlen,
    REGISTERED_AS[FLASH_VARLEN]: flash_varlen,
}


def packed_attention_of(model: PreTrainedModel) -> Callable[..., tuple[torch.Tensor, None]]:
    """Return the model's packed attention; raises ``ValueError`` for any other, in which segments would see each other."""
    name = model.config._attn_implementation
    if name not in _FUNCTIONS:
        raise ValueError(f"the model attends by {name}, which does not keep segments apart: call use_attention")
    return _FUNCTIONS[name]


def register() -> None:
    """Register both names with transformers; calling it again changes nothing."""
    for name, function in _FUNCTIONS.items():
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, lambda *args, **kwargs: None)
