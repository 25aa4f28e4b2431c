"""Load models from folders of safetensors and JSON, and prove that every weight was loaded. Nothing is unpickled.

transformers only warns when a checkpoint does not fit: a missing weight stays random, and a config of another architecture is
read as far as it fits. Here each of these is a ``ModelError``.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    ModernBertForMaskedLM,
    PreTrainedConfig,
)
from transformers.utils import logging as transformers_logging

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.encoder.attention import PACKED_SDPA, register
from clinical_modernbert.encoder.bfloat16 import choose_precision
from clinical_modernbert.encoder.embed import Encoder
from clinical_modernbert.encoder.linear import pack
from clinical_modernbert.encoder.model import keep_freed_memory
from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe.vocabulary import HeadKind, InferencePrecision, Pooling
from clinical_modernbert.tokenizer import load_tokenizer

# By the end of the name of a transformers class: BertForTokenClassification, LongformerModel.
_HEAD_OF_CLASS: dict[str, HeadKind] = {
    "ForSequenceClassification": "sequence",
    "ForTokenClassification": "token",
    "Model": "embedding",
}
_CLASS_WITH_NEW_HEAD: dict[HeadKind, Any] = {
    "sequence": AutoModelForSequenceClassification,
    "token": AutoModelForTokenClassification,
    "embedding": AutoModel,
}
# Weights of heads: a new head has them and the checkpoint does not, or the checkpoint's pretraining head has them.
_NEW_HEAD = ("classifier.", "head.", "score.", "pre_classifier.", "pooler.")
_OLD_HEAD = ("decoder.", "lm_head.", "cls.", "head.", "pooler.", "vocab_", "bert.embeddings.position_ids")
# The decoder shares the embedding matrix, so a checkpoint may hold either name.
_TIED = ("decoder.weight",)


def load_model(folder: str | Path, *, label: str | None = None, revision: str | None = None) -> ModernBertForMaskedLM:
    """Load a masked-language ModernBERT in float32 from a folder or a hub id; ``label`` names the model in errors."""
    return _load(ModernBertForMaskedLM, folder, label=label, revision=revision)


def load_encoder(folder: str | Path) -> Encoder:
    """Load a masked-language ModernBERT with its tokenizer, ready for inference."""
    keep_freed_memory()
    model = load_model(folder).eval()
    pack(model)
    return Encoder(model=model, tokenizer=load_tokenizer(folder))


def load_export(
    folder: Path, *, precision: InferencePrecision = "float32", pooling: Pooling = "cls", device: str = "cpu"
) -> Encoder:
    """Load a published model with its tokenizer: a masked-language ModernBERT, or any architecture with a fine-tuned head.

    An export is what ``save_pretrained`` writes. ``architectures`` in its config.json names the class and so the head.
    ``pooling`` is that of the vectors on which bfloat16 is judged. Raises ``ModelError`` for an architecture that is not served.
    """
    keep_freed_memory()
    model, head = load_with_head(folder)
    encoder = Encoder(model=model.eval().to(device), tokenizer=load_tokenizer(folder), head=head)
    encoder = choose_precision(encoder, precision, pooling=pooling)
    pack(encoder.model)
    return encoder


def load_with_head(folder: Path) -> tuple[Any, HeadKind]:
    """Return the model by the class that its config.json names."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} has no readable config.json ({type(error).__name__})") from None
    name = next(iter(config.get("architectures") or ()), None)
    if name == "ModernBertForMaskedLM" or (name is None and config.get("model_type") == "modernbert"):
        return load_model(folder), "masked-lm"
    head = next((head for suffix, head in _HEAD_OF_CLASS.items() if str(name).endswith(suffix)), None)
    model_class = getattr(transformers, str(name), None)
    if head is None or getattr(model_class, "config_class", None) is None:
        raise ModelError(
            f"{folder} is a {name or config.get('model_type')}; supported are ModernBertForMaskedLM and, of any encoder in "
            "transformers, ...ForSequenceClassification, ...ForTokenClassification and the bare ...Model"
        )
    return _load(model_class, folder), head


def load_with_new_head(
    folder: str | Path, head: HeadKind, *, label: str | None = None, labels: Sequence[str] = (), seed: int = 0
) -> Any:
    """Load an encoder of any architecture with a new head for ``labels``, drawn from ``seed``; ``embedding`` adds none.

    The checkpoint's own head is dropped; every weight of the encoder must be there. ``label`` names the model in errors.
    """
    options: dict[str, Any] = {}
    if labels:
        options = {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {name: number for number, name in enumerate(labels)},
        }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _load(_CLASS_WITH_NEW_HEAD[head], folder, label=label, new_head=True, **options)


def pooling_of(model: Artifact, asked: Pooling | None) -> Pooling:
    """Return ``asked``, else the pooling of the model's training, else ``cls``.

    Raises ``ModelError`` if ``asked`` is not the pooling of the training: the vectors would be meaningless.
    """
    trained: Pooling | None = (model.summary.get("head") or {}).get("pooling")
    if asked and trained and asked != trained:
        raise ModelError(
            f"pooling={asked}, but the vectors of {model.manifest.id} were trained with pooling={trained}: leave it out"
        )
    return asked or trained or "cls"


def default_device() -> torch.device:
    """Return the first GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _load(
    model_class: Any,
    folder: str | Path,
    *,
    label: str | None = None,
    revision: str | None = None,
    new_head: bool = False,
    **options: Any,
) -> Any:
    """Load in float32; a ModernBERT attends over packed rows."""
    register()
    label = label or str(folder)
    try:
        # Check first: transformers loads a config of another architecture with only a warning.
        values, _ = PreTrainedConfig.get_config_dict(str(folder), revision=revision)
        model_type = values.get("model_type")
        expected = getattr(
            getattr(model_class, "config_class", None), "model_type", model_type
        )  # Auto classes take any
        if model_type != expected:
            raise ModelError(f"{label} is a {model_type or 'model of unknown type'}, not a {expected}")
        if model_type == "modernbert":
            options["attn_implementation"] = PACKED_SDPA
        with _quiet():
            model, info = model_class.from_pretrained(
                str(folder),
                revision=revision,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # _check_keys reports them with the others
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(f"cannot load a {model_class.__name__} from {label}: {str(error).splitlines()[0]}") from None
    _check_keys(info, f"{label} does not fit a {model_class.__name__}", new_head=new_head)
    return model


def _check_keys(info: Mapping[str, Any], message: str, *, new_head: bool) -> None:
    """Raise ``ModelError`` if a weight was not loaded; with ``new_head``, weights of heads don't count."""
    may_miss, may_remain = (_NEW_HEAD, _OLD_HEAD) if new_head else (_TIED, ())
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(may_miss))
    unexpected = sorted(key for key in info["unexpected_keys"] if not key.startswith(may_remain))
    # The old head of a fine-tuned model may have another number of labels than the new one.
    reshaped = sorted(key[0] for key in info["mismatched_keys"] if not (new_head and key[0].startswith(_NEW_HEAD)))
    if missing or unexpected or reshaped:
        raise ModelError(
            f"{message}: {len(missing)} keys missing {missing[:3]}, {len(unexpected)} unexpected {unexpected[:3]}, "
            f"{len(reshaped)} of another shape {reshaped[:3]}"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' table of keys: ``_check_keys`` raises for what it warns about."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
