"""Texts of 10 to 1,000 tokens to vectors, against sentence-transformers, transformers, ONNX Runtime and OpenVINO in float32."""

from pathlib import Path

from benchmarks.harness import Row
from benchmarks.kits.encoding import encode_row

# Sixteen lengths, even on a logarithmic scale.
LENGTHS = [round(10 * 100 ** (n / 15)) for n in range(16)]


def build(scratch: Path) -> Row:
    """Return the row: the whole depth, the first token's state."""
    return encode_row(
        scratch,
        name="encode",
        num_layers=22,
        lengths=LENGTHS,
        pooling="cls",
        sizes=(1, 8),
        target=">= 3 sentence-transformers and transformers, >= 1.3 the best peer, >= 0.75 of the bound",
    )
