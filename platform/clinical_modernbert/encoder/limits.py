"""How many tokens a text may have: the only place that answers this.

``max_position_embeddings`` alone is not the answer: RoBERTa's family counts positions from the padding id on, so the first
rows of its table hold no token. The table of the model itself shows this, whatever the architecture is called.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from clinical_modernbert.errors import ModelError


def max_tokens(model: Any) -> int:
    """Return the length of the longest text in tokens, [CLS] and [SEP] included."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        raise ModelError(
            f"a {model.config.model_type} has no limit in its config (max_position_embeddings={positions}): "
            "its longest text is unknown"
        )
    table = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    padding_id = getattr(table, "padding_idx", None)
    # Example: RoBERTa's padding id is 1 and its table has 514 rows. The first token has position 2, the last one 513.
    return positions if padding_id is None else positions - padding_id - 1


def max_tokens_of_folder(folder: str | Path) -> int:
    """Return ``max_tokens`` of a model folder from its config.json; weights are neither read nor allocated."""
    try:
        config = AutoConfig.from_pretrained(str(folder))
        with torch.device("meta"):
            model = AutoModel.from_config(config)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"cannot build the model of {folder}: {str(error).splitlines()[0]}") from None
    return max_tokens(model)
