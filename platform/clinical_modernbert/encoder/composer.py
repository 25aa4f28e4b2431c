"""Convert ModernBERT's own training checkpoints (Composer, FlexBERT) to Hugging Face models.

The published checkpoints from before the decay phase are ``.pt`` files with the training code's names of layers; the rules below
come from its modules. A key without a rule and a weight without a key are errors, because a missing weight would stay random.
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import ModernBertConfig, ModernBertForMaskedLM

from clinical_modernbert.encoder.attention import PACKED_SDPA, register
from clinical_modernbert.encoder.export import save_model
from clinical_modernbert.errors import ModelError
from clinical_modernbert.tokenizer import load_tokenizer

_PREFIX = re.compile(r"^(?:state\.)?(?:model\.)?")
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(f"^{pattern}$"), name)
    for pattern, name in (
        (r"bert\.embeddings\.tok_embeddings\.weight", "model.embeddings.tok_embeddings.weight"),
        (r"bert\.embeddings\.norm\.weight", "model.embeddings.norm.weight"),
        (r"bert\.encoder\.layers\.(\d+)\.(attn_norm|mlp_norm)\.weight", r"model.layers.\1.\2.weight"),
        (r"bert\.encoder\.layers\.(\d+)\.attn\.(Wqkv|Wo)\.weight", r"model.layers.\1.attn.\2.weight"),
        (r"bert\.encoder\.layers\.(\d+)\.mlp\.(Wi|Wo)\.weight", r"model.layers.\1.mlp.\2.weight"),
        (r"bert\.final_norm\.weight", "model.final_norm.weight"),
        (r"head\.(dense|norm)\.weight", r"head.\1.weight"),
        (r"decoder\.(weight|bias)", r"decoder.\1"),
    )
)


def hugging_face_name(composer_name: str) -> str:
    """Return a weight's name in ``ModernBertForMaskedLM``; raises ``ModelError`` for a name that no rule covers."""
    bare = _PREFIX.sub("", composer_name)
    for pattern, name in _RULES:
        if pattern.match(bare):
            return pattern.sub(name, bare)
    raise ModelError(f"{composer_name!r} is not a weight of a ModernBERT in Composer's format")


def convert_state_dict(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return ``weights`` under Hugging Face's names; two weights with one name are an error."""
    converted: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        target = hugging_face_name(name)
        if target in converted:
            raise ModelError(f"two weights of the checkpoint are {target}")
        converted[target] = tensor
    # The decoder shares the embedding matrix. If the checkpoint has both, they must be equal.
    decoder, embeddings = converted.pop("decoder.weight", None), converted.get("model.embeddings.tok_embeddings.weight")
    if decoder is not None and (embeddings is None or not torch.equal(decoder, embeddings)):
        raise ModelError("decoder.weight differs from the embedding matrix: not a ModernBERT with tied weights")
    return converted


def read_composer_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Return the model's weights from a ``.pt`` file. Only tensors and plain containers are unpickled, so no code in it runs."""
    try:
        # safe: weights_only loads tensors and plain containers
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ModelError(
            f"cannot read {path}: it contains more than tensors and plain containers, or is damaged ({type(error).__name__}). "
            "Where the file was made, save only its ['state']['model'] with torch.save"
        ) from None
    for key in ("state", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(t, torch.Tensor) for t in loaded.values()):
        raise ModelError(f"{path} has no weights: expected ['state']['model'], or the weights themselves")
    return loaded


def convert_checkpoint(path: Path, *, config: ModernBertConfig) -> ModernBertForMaskedLM:
    """Return the model in float32 with the weights of ``path``; ``config`` is that of the same model on the hub.

    Every weight must be there and have the right shape; raises ``ModelError``.
    """
    register()
    weights = {name: tensor.float() for name, tensor in convert_state_dict(read_composer_checkpoint(path)).items()}
    config._attn_implementation = PACKED_SDPA
    model = ModernBertForMaskedLM(config)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items() if name != "decoder.weight"}
    missing, unexpected = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    reshaped = sorted(name for name in expected.keys() & weights.keys() if expected[name] != weights[name].shape)
    if missing or unexpected or reshaped:
        raise ModelError(
            f"{path} does not fit the config: {len(missing)} weights missing {missing[:3]}, {len(unexpected)} unexpected "
            f"{unexpected[:3]}, {len(reshaped)} of another shape {reshaped[:3]}"
        )
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
    return model


def convert_to_folder(path: Path, *, like: str, folder: Path) -> None:
    """Write the model of ``path`` with its tokenizer to a new folder, which ``model.init`` of a pretrain recipe can name.

    ``like`` is a hub id or folder of the same model: its config and tokenizer are taken. Raises ``ModelError``.
    """
    if folder.exists():
        raise ModelError(f"{folder} exists: name a new folder")
    try:
        config = ModernBertConfig.from_pretrained(like)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load the config of {like}: {str(error).splitlines()[0]}") from None
    tokenizer = load_tokenizer(like)
    model = convert_checkpoint(path, config=config)
    save_model(model, tokenizer, folder)
