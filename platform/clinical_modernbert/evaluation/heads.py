"""The encoder under evaluation as a model on this machine's device: bare, or with a new head for a task."""

from collections.abc import Sequence
from typing import Any

import torch

from clinical_modernbert.encoder import (
    PACKED_SDPA,
    default_device,
    has_bfloat16,
    load_with_new_head,
    pack,
    products_in,
    train_by_fastest,
    use_attention,
)
from clinical_modernbert.errors import ModelError
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.recipe.vocabulary import HeadKind


def load_head(
    encoder: LocalEncoder, head: HeadKind, *, labels: Sequence[str], seed: int, attention: str = PACKED_SDPA
) -> Any:
    """Return the encoder with a new head drawn from ``seed``; raises ``ModelError`` if a weight of the encoder is missing."""
    model = load_with_new_head(encoder.folder, head, label=_label(encoder), labels=labels, seed=seed)
    model = _on_device(_finite(model, encoder), attention=attention)
    train_by_fastest(model)
    return model


def load_base(encoder: LocalEncoder, *, attention: str = PACKED_SDPA) -> Any:
    """Return the encoder without a head, in evaluation mode."""
    model = load_with_new_head(encoder.folder, "embedding", label=_label(encoder))
    model = _on_device(_finite(model, encoder), attention=attention).eval()
    pack(model)
    return model


def mixed_precision() -> torch.autocast:
    """Return the arithmetic of evaluation runs: bfloat16 products where the GPU has them, float32 everywhere else."""
    device = default_device()
    return products_in("bfloat16" if device.type == "cuda" and has_bfloat16(device) else "float32", device)


def _label(encoder: LocalEncoder) -> str:
    return f"encoder {encoder.name} ({encoder.origin})"


def _finite(model: Any, encoder: LocalEncoder) -> Any:
    """Return the model; a weight that is not a number gives figures that look like those of a weak encoder."""
    broken = [name for name, weights in model.named_parameters() if not bool(torch.isfinite(weights).all())]
    if broken:
        raise ModelError(f"{_label(encoder)}: {len(broken)} weights are not finite, the first is {broken[0]}")
    return model


def _on_device(model: Any, *, attention: str) -> Any:
    model = model.to(default_device())
    if model.config.model_type == "modernbert" and attention != PACKED_SDPA:
        use_attention(model, attention)
    return model
