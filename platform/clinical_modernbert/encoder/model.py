"""Build a ModernBERT from a recipe, and read or change what training needs of one."""

import torch
from transformers import ModernBertConfig, ModernBertForMaskedLM

from clinical_modernbert.encoder.attention import PACKED_SDPA, register
from clinical_modernbert.recipe.pretrain import ModelSection


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
