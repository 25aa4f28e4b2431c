"""Closed sets of words that recipes, models, serving and evaluation share: poolings, heads, attention, frozen evaluation masks.

Defined here because defaults of recipes need them. Code above the recipes takes the masks from ``masking``.
"""

from typing import Literal

Pooling = Literal["cls", "mean"]
"""How the states of a text become one vector: the first token's state, or the mean over all tokens."""

Precision = Literal["float32", "bfloat16"]
"""The arithmetic of a model's matrix products."""
Attention = Literal["packed_sdpa", "torch_varlen", "flash_varlen"]
"""Attention over packed rows, as ``encoder/attention.py`` has them."""
InferencePrecision = Literal["float32", "bfloat16", "auto"]

VectorType = Literal["float32", "float16", "int8"]
"""Type of the numbers of stored vectors. ``int8``: each vector scaled so that its largest number is 127, which keeps cosines."""
OutputType = VectorType | Literal["binary"]
"""Type of the numbers of an answer. ``binary``: the signs, eight to a byte."""

PortableFormat = Literal["onnx", "openvino"]

PortableOutput = Literal["vectors", "logits"]
"""What an exported file computes: a vector for each text, or the output of the model's head."""
Grouping = Literal["none", "simple", "first", "average", "max"]
"""How labelled tokens become labelled spans, as ``encoder/spans.py`` has it."""

HeadKind = Literal["masked-lm", "sequence", "token", "embedding"]
"""What a model computes from its encoder's states: words at masks, one label a text, one label a token, or vectors only."""

# Manifests written by evaluation runs spell ``head.kind`` as transformers names its tasks. A masked-language model has no entry.
MANIFEST_KIND: dict[HeadKind, str] = {
    "sequence": "sequence_classification",
    "token": "token_classification",
    "embedding": "embedding",
}

MaskKind = Literal["uniform", "entity"]
"""The frozen evaluation masks by name."""
MASK_KINDS: tuple[MaskKind, ...] = ("uniform", "entity")
TOP_K = (1, 5, 10, 25)
"""The ranks at which accuracy under these masks is counted."""

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
)
"""Files of which the folder of a tokenizer has one."""
