"""How long a text may be, for architectures that number positions from 0 and for those that number them from the padding id."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from clinical_modernbert.encoder.forward import states
from clinical_modernbert.encoder.limits import max_tokens, max_tokens_of_folder
from clinical_modernbert.encoder.windows import cut
from clinical_modernbert.errors import ModelError
from transformers import AutoConfig, AutoModel

NUM_POSITIONS, PADDING_ID = 34, 1
LIMITS = {
    **dict.fromkeys(("bert", "electra", "distilbert"), 34),
    **dict.fromkeys(("roberta", "camembert", "xlm-roberta", "longformer"), 32),
    **dict.fromkeys(("mpnet", "data2vec-text", "ibert", "roberta-prelayernorm"), 32),
    "modernbert": 34,
}


def one_layer(architecture: str) -> Any:
    """Return a random model of one layer with 34 positions."""
    config = AutoConfig.for_model(
        architecture,
        vocab_size=64,
        hidden_size=16,
        embedding_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=NUM_POSITIONS,
        pad_token_id=PADDING_ID,
        **({"attention_window": [8]} if architecture == "longformer" else {}),
    )
    torch.manual_seed(0)
    return AutoModel.from_config(config).eval()


@pytest.mark.parametrize("architecture", LIMITS)
@torch.inference_mode()
def test_a_text_beyond_the_limit_is_cut_and_runs(architecture: str, tmp_path: Path) -> None:
    model = one_layer(architecture)
    model.config.save_pretrained(tmp_path)
    limit = max_tokens_of_folder(tmp_path)
    assert limit == max_tokens(model) == LIMITS[architecture]
    text = cut([2, *[7] * 50, 3], limit)
    assert len(text) == limit
    if architecture == "modernbert":
        return  # rotary: it has no table to run past, and packed attention is set by the loader
    hidden_TD = states(model, [text, [2, 3]])
    assert hidden_TD.shape == (limit + 2, 16) and hidden_TD.isfinite().all()
    if architecture not in ("longformer", "ibert"):
        with pytest.raises((IndexError, RuntimeError)):
            states(model, [[2, *[7] * (limit - 1), 3]])  # one token more: the limit is not too low


def test_no_limit_and_no_model_are_errors(tmp_path: Path) -> None:
    model = SimpleNamespace(config=SimpleNamespace(model_type="xlnet"))
    with pytest.raises(ModelError, match="a xlnet has no limit in its config"):
        max_tokens(model)
    (tmp_path / "config.json").write_text('{"model_type": "nonsense"}')
    with pytest.raises(ModelError, match="cannot build the model of"):
        max_tokens_of_folder(tmp_path)
