"""Write a model as a Hugging Face folder that transformers 4 and 5, text-embeddings-inference and candle read alike.

transformers 5 writes RoPE bases and the kinds of layers under new names only. Earlier versions ignore those without a warning and
take ModernBERT's defaults: another model. So the earlier names are written too. They have no form for scaled RoPE or an irregular
order of layers; such a model, which only ``model.init`` can bring, needs transformers 5.
"""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from clinical_modernbert.encoder.limits import max_tokens
from clinical_modernbert.tokenizer import save_tokenizer


def save_model(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write safetensors, config and tokenizer; the tokenizer's ``truncation=True`` cuts at the model's longest text."""
    model.save_pretrained(folder, safe_serialization=True)
    if model.config.model_type == "modernbert":
        path = folder / "config.json"
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(config | _earlier_names(config), indent=2) + "\n", encoding="utf-8")
    save_tokenizer(tokenizer, folder, max_tokens=max_tokens(model))


def _earlier_names(config: dict[str, Any]) -> dict[str, Any]:
    """Return what transformers 4 calls the config's ``rope_parameters`` and ``layer_types``."""
    ropes, kinds = config["rope_parameters"], config["layer_types"]
    is_global = [kind == "full_attention" for kind in kinds]
    # Layers 0, n, 2n, ... are global: n is the place of the second one, or past the end if there is no second.
    every = next((place for place in range(1, len(kinds)) if is_global[place]), len(kinds))
    names = {
        "global_rope_theta": ropes["full_attention"]["rope_theta"],
        "local_rope_theta": ropes["sliding_attention"]["rope_theta"],
    }
    if is_global == [place % every == 0 for place in range(len(kinds))]:
        names["global_attn_every_n_layers"] = every
    return names
