"""The vocabulary of heads and poolings, shared by recipes, models, serving and evaluation."""

from typing import Literal

Pooling = Literal["cls", "mean"]
"""How the states of a text become one vector: the first token's state, or the mean over all tokens."""

HeadKind = Literal["masked-lm", "sequence", "token", "embedding"]
"""What a model computes from its encoder's states: words at masks, one label a text, one label a token, or vectors only."""

# Manifests written by evaluation runs spell ``head.kind`` as transformers names its tasks. A masked-language model has no entry.
MANIFEST_KIND: dict[HeadKind, str] = {
    "sequence": "sequence_classification",
    "token": "token_classification",
    "embedding": "embedding",
}
