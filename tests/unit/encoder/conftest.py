"""One tiny encoder with random weights, and its tokenizer."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from clinical_modernbert.encoder import Encoder, build_model, load_encoder
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.recipe.pretrain import ModelSection
from clinical_modernbert.tokenizer import build_tokenizer, padded_vocabulary_size, special_ids
from transformers import ModernBertForMaskedLM

from tests.helpers.encoders import encoder_folders  # noqa: F401  # a fixture

SPECIAL_IDS = {"pad": 0, "cls": 1, "sep": 2, "mask": 4}
TEXTS = ["chest pain radiating to the left arm", "no acute distress", "warfarin 5 mg daily was held. " * 9, "x"]

MakeModel = Callable[..., ModernBertForMaskedLM]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """A model this small is slower on several threads, and much slower where others use them too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """Return ``make(num_layers=, seed=, **ModelSection fields)``: a tiny model in evaluation mode.

    ModernBERT's initial weights give near uniform attention; scaled up, a wrong mask shows.
    """

    def make(*, seed: int = 0, **shape: int) -> ModernBertForMaskedLM:
        tiny = {"hidden_size": 64, "intermediate_size": 96, "num_layers": 4, "num_heads": 4}
        section = ModelSection.model_validate({**tiny, **shape})
        model = build_model(section, vocabulary_size=512, special_ids=SPECIAL_IDS, seed=seed).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 2:
                    parameter *= 3.0
        return model

    return make


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
