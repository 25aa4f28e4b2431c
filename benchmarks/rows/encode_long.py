"""Texts of 1,000 to 8,000 tokens to vectors: three layers (one global in three, as in the whole model), mean pooling.

Three layers take the same time in a model of any depth, and five rounds of all peers at 22 layers would take an hour. Mean
pooling needs every token of the last layer; skipping some would count for more at 3 layers than at 22.
"""

from pathlib import Path

from benchmarks.harness import Row
from benchmarks.kits.encoding import encode_row

LENGTHS = [1_000, 2_000, 4_000, 8_000]


def build(scratch: Path) -> Row:
    """Return the row."""
    return encode_row(
        scratch,
        name="encode-long",
        num_layers=3,
        lengths=LENGTHS,
        pooling="mean",
        sizes=(1,),  # two of 8,000 tokens would take the peers beyond 24 GiB
        target=">= 4 sentence-transformers and transformers, >= 1.8 the best peer, >= 0.75 of the bound",
    )
