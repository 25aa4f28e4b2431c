"""Write a model as a Hugging Face folder that transformers 4 and 5, text-embeddings-inference and candle read alike.

transformers 5 writes RoPE bases and the kinds of layers under new names only. Earlier versions ignore those without a warning and
take ModernBERT's defaults: another model. So the earlier names are written too. They have no form for scaled RoPE or an irregular
order of layers; such a model, which only ``model.init`` can bring, needs transformers 5. Readers in Rust require some names that
transformers no longer writes, or never did; those are written as well.
"""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from clinical_modernbert.encoder.limits import max_tokens
from clinical_modernbert.recipe.vocabulary import Precision
from clinical_modernbert.tokenizer import save_tokenizer


def save_model(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path, *, dtype: Precision = "float32") -> None:
    """Write safetensors, config and tokenizer; the tokenizer's ``truncation=True`` cuts at the model's longest text.

    ``dtype`` is that of the weights in the file; the model keeps its own.
    """
    path, names = folder / "config.json", {}
    if dtype == "bfloat16":
        model.save_pretrained(folder, safe_serialization=True, state_dict=_rounded(model))
        # transformers 4 reads the second name and loads float32 unless asked; 5 reads the first and loads what it says.
        names = {"dtype": dtype, "torch_dtype": dtype}
    else:
        model.save_pretrained(folder, safe_serialization=True)
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if model.config.model_type == "modernbert":
        names |= _earlier_names(config) | _names_of_rust_readers(config)
    path.write_text(json.dumps(config | names, indent=2) + "\n", encoding="utf-8")
    save_tokenizer(tokenizer, folder, max_tokens=max_tokens(model))


def _rounded(model: Any) -> dict[str, torch.Tensor]:
    """Return the weights in bfloat16. Shared ones stay shared: a tied decoder is one tensor of the file."""
    found: dict[int, torch.Tensor] = {}
    rounded = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in found:
            found[tensor.data_ptr()] = tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
        rounded[name] = found[tensor.data_ptr()]
    return rounded


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


def _names_of_rust_readers(config: dict[str, Any]) -> dict[str, Any]:
    """Return what candle and text-embeddings-inference read under names of their own.

    candle requires ``layer_norm_eps``. Without ``num_labels`` text-embeddings-inference takes a classifier for one of one label.
    """
    labels = config.get("id2label")
    return {"layer_norm_eps": config["norm_eps"], **({"num_labels": len(labels)} if labels else {})}
