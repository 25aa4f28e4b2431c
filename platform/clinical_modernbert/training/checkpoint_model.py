"""Whether the checkpoint of ``model.init`` can be trained as the recipe says; each refusal names the field or the config key."""

from typing import Any

from clinical_modernbert.encoder import FLASH_VARLEN, check_rope_theta
from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe import PretrainRecipe
from clinical_modernbert.recipe.pretrain import ModelSection


def check_checkpoint(model: Any, recipe: PretrainRecipe) -> None:
    """Raise ``ModelError`` if the recipe asks for what the loaded checkpoint does not have."""
    config, init = model.config, recipe.model.init
    phases = recipe.training.resolved_phases
    # From the checkpoint, not from the recipe: later positions were never trained.
    longest = max(phase.sequence_length for phase in phases)
    if longest > config.max_position_embeddings:
        raise ModelError(
            f"{init} takes segments of up to {config.max_position_embeddings} tokens, training.sequence_length is {longest}"
        )
    if model.decoder.bias is None:
        raise ModelError(f"{init} has decoder_bias=false in its config.json; training needs decoder_bias=true")
    if config.attention_dropout and recipe.scaling.attention != FLASH_VARLEN:
        raise ModelError(
            f"{init} has attention_dropout={config.attention_dropout} in its config.json, which "
            f"scaling.attention={recipe.scaling.attention} does not have; set it to 0 there"
        )
    for phase in phases:
        if phase.global_rope_theta is not None:
            check_rope_theta(model, phase.global_rope_theta)
    _check_shape(config, recipe.model)


def _check_shape(config: Any, section: ModelSection) -> None:
    every = section.global_every_layers
    kinds = ["sliding_attention" if n % every else "full_attention" for n in range(config.num_hidden_layers)]
    found = {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "local_attention": config.local_attention,
        "global_every_layers": every if list(config.layer_types) == kinds else "other layers",
        "global_rope_theta": config.rope_parameters["full_attention"]["rope_theta"],
        "local_rope_theta": config.rope_parameters["sliding_attention"]["rope_theta"],
    }
    # A resolved recipe has every field, so a default says nothing. Another value would have no effect.
    for name, value in found.items():
        wanted = getattr(section, name)
        if wanted not in (value, ModelSection.model_fields[name].default):
            raise ModelError(
                f"model.{name}={wanted} differs from model.init={section.init}, which has {value}; "
                "remove the field, or set model.init=scratch"
            )
