"""Two tiny encoders with weights on disk: a ModernBERT (packed) and a BERT (padded), with one tokenizer."""

from pathlib import Path

import pytest
import torch
from clinical_modernbert.encoder import build_model
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.recipe.pretrain import ModelSection
from clinical_modernbert.tokenizer import build_tokenizer, padded_vocabulary_size, special_ids
from transformers import BertConfig, BertModel

from tests.helpers.tiny import tiny_texts


@pytest.fixture(scope="session")
def encoder_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """architecture -> folder of safetensors, config and tokenizer."""
    tokenizer = build_tokenizer(
        TokenizerSection(base="train", vocabulary_size=384, num_clinical_tokens=0), tiny_texts(60), clinical_words=set()
    )
    size = padded_vocabulary_size(tokenizer)
    section = ModelSection(
        hidden_size=32,
        intermediate_size=48,
        num_layers=2,
        num_heads=2,
        local_attention=8,
        max_position_embeddings=64,
        global_every_layers=2,
    )
    torch.manual_seed(0)
    models = {
        "modernbert": build_model(section, vocabulary_size=size, special_ids=special_ids(tokenizer), seed=0),
        "bert": BertModel(
            BertConfig(
                vocab_size=size,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=64,
                pad_token_id=special_ids(tokenizer)["pad"],
            )
        ),
    }
    folders = {}
    for name, model in models.items():
        folders[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders
