"""Exports: a model as training or an evaluation publishes it, with or without a head, for serving and bulk jobs alike.

An export is what ``save_pretrained`` of transformers writes: config.json with ``architectures`` and, for a classification head,
``id2label`` and ``problem_type``; model.safetensors; and the tokenizer beside them.
"""

import json
from pathlib import Path
from typing import Any

import transformers

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.encoder.embed import Encoder, Head, Pooling, load_encoder, load_tokenizer
from clinical_modernbert.encoder.memory import keep_freed_memory
from clinical_modernbert.encoder.model import load_with_head
from clinical_modernbert.errors import ModelError

# By how transformers names its classes: BertForTokenClassification, LongformerModel.
_FINE_TUNED: dict[str, Head] = {
    "ForSequenceClassification": "sequence",
    "ForTokenClassification": "token",
    "Model": "embedding",
}


def load_export(folder: Path) -> Encoder:
    """Load model and tokenizer with the head of the export, if any; ModernBERT, or another architecture once fine-tuned.

    Raises ``ModelError`` where a weight is missing or left over, and for an architecture that is not served.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} has no readable config.json ({type(error).__name__})") from None
    name = next(iter(config.get("architectures") or ()), None)
    if name == "ModernBertForMaskedLM" or (name is None and config.get("model_type") == "modernbert"):
        return load_encoder(folder)
    head = next((head for suffix, head in _FINE_TUNED.items() if str(name).endswith(suffix)), None)
    model_class: Any = getattr(transformers, str(name), None)
    if head is None or getattr(model_class, "config_class", None) is None:
        raise ModelError(
            f"{folder} is a {name or config.get('model_type')}; served and embedded are ModernBertForMaskedLM and, of any "
            "encoder in transformers, ...ForSequenceClassification, ...ForTokenClassification and the bare ...Model"
        )
    keep_freed_memory()
    return Encoder(model=load_with_head(model_class, folder).eval(), tokenizer=load_tokenizer(folder), head=head)


def check_pooling(model: Artifact, pooling: Pooling) -> None:
    """Raise ``ModelError`` where the model's vectors were fine-tuned with another pooling: they would mean nothing."""
    head = model.summary.get("head") or {}
    trained = head.get("pooling", pooling)
    if pooling != trained:
        raise ModelError(
            f"pooling={pooling}, but the vectors of {model.manifest.id} were fine-tuned with pooling={trained}: set that"
        )
