"""One tiny encoder with random weights, and its tokenizer."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from clinical_modernbert.encoder import Encoder, build_model, load_encoder
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.recipe.pretrain import ModelSection
from clinical_modernbert.tokenizer import build_tokenizer, padded_vocabulary_size, special_ids

from tests.helpers.encoders import encoder_folders  # noqa: F401  # a fixture
from tests.helpers.tiny_encoder import SPECIAL_IDS, MakeModel, make_model  # noqa: F401  # a fixture

TEXTS = ["chest pain radiating to the left arm", "no acute distress", "warfarin 5 mg daily was held. " * 9, "x"]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """A model this small is slower on several threads, and much slower where others use them too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as training exports it: model and tokenizer."""
    folder = tmp_path_factory.mktemp("export")
    tokenizer = build_tokenizer(
        TokenizerSection(base="train", vocabulary_size=512), TEXTS * 3, clinical_words=frozenset()
    )
    model = build_model(
        ModelSection(hidden_size=64, intermediate_size=96, num_layers=4, num_heads=4, max_position_embeddings=512),
        vocabulary_size=padded_vocabulary_size(tokenizer),
        special_ids=special_ids(tokenizer),
        seed=3,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder(export: Path) -> Encoder:
    """The export, loaded."""
    return load_encoder(export)
