"""Where the segments of a packed batch are: built once a batch, used by every layer and by each attention.

Legend: T tokens, S segments, B bucket length.
"""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Bucket:
    """Segments of one length, back to back in the layout's order."""

    num_segments: int
    width: int
    """Tokens of each."""


@dataclass(frozen=True, slots=True)
class SegmentLayout:
    """Where the segments of a packed batch are; built once a batch and used by every layer.

    The layout's order sorts segments by length, shortest first, so that those of a bucket are adjacent.
    """

    position_ids_1T: torch.Tensor
    """Position of each token in its segment, in the batch's order."""
    buckets: tuple[Bucket, ...]
    """Shortest first."""
    order_T: torch.Tensor
    """Token at each place of the layout's order."""
    place_T: torch.Tensor
    """Place of each token: the inverse of ``order_T``."""
    in_order: bool
    """Whether the layout's order is the batch's."""
    lengths: tuple[int, ...]
    """Tokens of each segment, in the layout's order."""
    cu_lengths: torch.Tensor
    """Where each segment of the layout's order starts, and the end of the last; int32 [segments + 1]."""
    segment_of_S: torch.Tensor
    """Number in the batch of each segment of the layout's order."""
    causal: bool
    """Whether a token sees no token after it."""
    masks: dict[tuple[int, int], torch.Tensor]
    """Masks of local layers, True where a key is seen; the first such layer of a batch fills them in."""

    @classmethod
    def build(cls, lengths: list[int], *, device: torch.device | None = None, causal: bool = False) -> "SegmentLayout":
        """Lay out segments of ``lengths`` tokens that follow each other in the packed batch.

        Example: lengths 3, 1, 3 have the order b | a a a | c c c (tokens 3, 0 1 2, 4 5 6), buckets of 1 x 1 and 2 x 3 tokens,
        and ``segment_of_S`` 1, 0, 2.
        """
        lengths_S = np.asarray(lengths, dtype=np.int64)
        if lengths_S.size == 0 or int(lengths_S.min()) < 1:
            raise ValueError(f"segments must have at least one token, got lengths {lengths[:8]}")
        # NumPy, not torch: on small integer arrays its calls cost a fraction of torch's.
        # Positions count from each segment's start.
        starts_S = np.cumsum(lengths_S) - lengths_S
        positions = np.arange(int(lengths_S.sum())) - np.repeat(starts_S, lengths_S)
        # Sort segments by length. A token keeps its distance from its segment's start, so shift the tokens of each segment.
        sorted_S = np.argsort(lengths_S, kind="stable")
        inside_S = lengths_S[sorted_S]
        order = np.repeat(starts_S[sorted_S] - (np.cumsum(inside_S) - inside_S), inside_S) + np.arange(len(positions))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        # Each distinct length is a bucket.
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
            causal=causal,
            masks={},
        )

    def reach(self, window: int) -> int:
        """Return how many tokens after itself a query sees in a local layer of ``window`` tokens on each side."""
        return 0 if self.causal else window


def checked_layout(
    name: str, layout: SegmentLayout | None, *, attention_mask: torch.Tensor | None, query: torch.Tensor
) -> SegmentLayout:
    """Return the layout; raises ``ValueError`` for a call of the attention ``name`` that is not of one packed row."""
    if layout is None or attention_mask is not None or query.shape[0] != 1:
        raise ValueError(f"{name} needs one packed row, layout=SegmentLayout and no attention_mask: call encode_packed")
    return layout
