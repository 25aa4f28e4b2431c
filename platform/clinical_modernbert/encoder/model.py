"""Build a ModernBERT from a recipe or load one from a folder, and prove that its weights were really loaded.

The paper's code loads a ModernBERT checkpoint into a plain BERT class: every key is missing, transformers warns, training goes
on from random weights. Here a missing or unexpected key is an error.
"""

from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from transformers import ModernBertConfig, ModernBertForMaskedLM

from clinical_modernbert.encoder.attention import PACKED_SDPA, register
from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe.pretrain import ModelSection

T = TypeVar("T")


def build_model(
    section: ModelSection, *, vocabulary_size: int, special_ids: dict[str, int], seed: int
) -> ModernBertForMaskedLM:
    """Return a model with fresh weights drawn from ``seed``; ``special_ids`` has pad, cls, sep and mask."""
    register()
    config = ModernBertConfig(
        vocab_size=vocabulary_size,
        hidden_size=section.hidden_size,
        intermediate_size=section.intermediate_size,
        num_hidden_layers=section.num_layers,
        num_attention_heads=section.num_heads,
        max_position_embeddings=section.max_position_embeddings,
        local_attention=section.local_attention,
        layer_types=[
            "sliding_attention" if layer % section.global_every_layers else "full_attention"
            for layer in range(section.num_layers)
        ],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": section.global_rope_theta},
            "sliding_attention": {"rope_type": "default", "rope_theta": section.local_rope_theta},
        },
        pad_token_id=special_ids["pad"],
        cls_token_id=special_ids["cls"],
        sep_token_id=special_ids["sep"],
        bos_token_id=special_ids["cls"],
        eos_token_id=special_ids["sep"],
        attn_implementation=PACKED_SDPA,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ModernBertForMaskedLM(config)


def load_model(folder: str | Path, *, revision: str | None = None) -> ModernBertForMaskedLM:
    """Load a masked-language ModernBERT as ``load_with_head`` does."""
    return load_with_head(ModernBertForMaskedLM, folder, revision=revision)


def load_with_head(model_class: type[T], folder: str | Path, *, revision: str | None = None) -> T:
    """Load one of transformers' classes in float32 from a hub id or a folder of safetensors; ModernBERT reads packed rows.

    No key may be missing, left over or of another shape; raises ``ModelError``.
    """
    register()
    config_class = model_class.config_class  # type: ignore[attr-defined]  # every class of transformers has it
    wanted = config_class.model_type
    try:
        values, _ = config_class.get_config_dict(str(folder), revision=revision)
        # Before the weights: transformers reads another architecture's config as far as it fits, with a warning.
        if values.get("model_type") != wanted:
            raise ModelError(f"{folder} is a {values.get('model_type', 'model of unknown type')}, not a {wanted}")
        # mypy sees transformers as Any; output_loading_info makes it a pair.
        model, info = model_class.from_pretrained(  # type: ignore[attr-defined]  # as above
            str(folder),
            revision=revision,
            **({"attn_implementation": PACKED_SDPA} if wanted == "modernbert" else {}),
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # so that they are reported below with the rest
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"cannot load a {model_class.__name__} from {folder}: {str(error).splitlines()[0]}") from None
    # The decoder shares the embedding matrix, so a checkpoint may hold either name.
    missing = sorted(set(info["missing_keys"]) - {"decoder.weight"})
    unexpected = sorted(info["unexpected_keys"])
    if missing or unexpected or info["mismatched_keys"]:
        raise ModelError(
            f"{folder} does not fit a {model_class.__name__}: {len(missing)} keys missing {missing[:3]}, "
            f"{len(unexpected)} unexpected {unexpected[:3]}, {len(info['mismatched_keys'])} of another shape"
        )
    return model


def global_rope_theta(model: ModernBertForMaskedLM) -> float:
    """Return the RoPE base of the layers that attend to the whole segment."""
    return float(model.config.rope_parameters["full_attention"]["rope_theta"])


def set_global_rope_theta(model: ModernBertForMaskedLM, theta: float) -> None:
    """Give global layers another RoPE base, in the config that is exported and in the tables that are used."""
    if global_rope_theta(model) == theta:
        return
    config, rotary = model.config, model.model.rotary_emb
    config.rope_parameters["full_attention"]["rope_theta"] = theta
    inverse, _ = rotary.compute_default_rope_parameters(config, model.device, layer_type="full_attention")
    rotary.full_attention_inv_freq = inverse
    rotary.full_attention_original_inv_freq = inverse.clone()


def compile_feed_forward(model: ModernBertForMaskedLM) -> None:
    """Compile the feed-forward layers in place, for any number of tokens; weights and their names stay as they are.

    Attention is left out: its buckets differ in every batch, and each new shape would be compiled again.
    """
    for layer in model.model.layers:
        layer.mlp.compile(dynamic=True)


def num_parameters(model: torch.nn.Module) -> int:
    """Return the number of trained parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
