"""A tiny encoder with random weights and token ids for it."""

from collections.abc import Callable

import pytest
import torch
from clinical_modernbert.encoder import build_model
from clinical_modernbert.recipe.pretrain import ModelSection
from transformers import ModernBertForMaskedLM

SPECIAL_IDS = {"pad": 0, "cls": 1, "sep": 2, "mask": 4}

MakeModel = Callable[..., ModernBertForMaskedLM]


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


def random_ids(lengths: list[int], seed: int = 0) -> torch.Tensor:
    return torch.randint(5, 500, (sum(lengths),), generator=torch.Generator().manual_seed(seed))
