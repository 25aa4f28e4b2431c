"""Embeddings: a text's vector depends on the text, the pooling and nothing else."""

import numpy as np
import pytest
import torch
from clinical_modernbert.encoder import Encoder
from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe.vocabulary import Pooling
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel

TEXTS = [f"patient {i}: {'denies fever and chills. ' * (i % 9)}" for i in range(30)]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_vectors_are_those_of_transformers_for_each_text_alone(encoder: Encoder, pooling: Pooling) -> None:
    reference = AutoModel.from_pretrained(encoder.tokenizer.name_or_path).eval()
    ids = encoder.tokenize(TEXTS)
    found = encoder.embed(ids, pooling=pooling, normalize=False)
    assert found.dtype == np.float32
    with torch.no_grad():
        for vector, one in zip(found, ids, strict=True):
            hidden_TD = reference(input_ids=torch.tensor([one])).last_hidden_state[0]
            expected = hidden_TD[0] if pooling == "cls" else hidden_TD.mean(0)
            np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(30)), size=st.integers(1, 30), budget=st.sampled_from([8, 100, 400, 16_384]))
def test_company_order_and_budget_change_nothing(encoder: Encoder, order: list[int], size: int, budget: int) -> None:
    ids = encoder.tokenize(TEXTS)
    whole = encoder.embed(ids, pooling="mean", normalize=True)
    mine = order[:size]
    part = encoder.embed([ids[i] for i in mine], pooling="mean", normalize=True, max_batch_tokens=budget)
    np.testing.assert_allclose(part, whole[mine], atol=1e-5)


def test_normalised_vectors_have_length_one_and_the_same_direction(encoder: Encoder) -> None:
    ids = encoder.tokenize(TEXTS)
    plain, unit = (encoder.embed(ids, pooling="cls", normalize=flag) for flag in (False, True))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(unit * np.linalg.norm(plain, axis=1, keepdims=True), plain, atol=1e-5)


def test_tokens_carry_cls_and_sep_and_are_never_cut(encoder: Encoder) -> None:
    long = "warfarin " * 2000
    (ids,) = encoder.tokenize([long])
    assert (ids[0], ids[-1]) == (encoder.tokenizer.cls_token_id, encoder.tokenizer.sep_token_id)
    assert len(ids) > encoder.max_tokens
    assert encoder.tokenizer.decode(ids[1:-1]) == long


def test_nothing_gives_no_vectors(encoder: Encoder) -> None:
    assert encoder.tokenize([]) == []
    assert encoder.embed([], pooling="cls", normalize=True).shape == (0, 64)


def test_texts_beyond_the_model_s_length_and_empty_ones_are_refused(encoder: Encoder) -> None:
    assert encoder.max_tokens == 512
    assert encoder.embed([[1] * 512], pooling="cls", normalize=True).shape == (1, 64)
    for ids in ([[1] * 513], [[1, 2], []]):
        with pytest.raises(ModelError, match="1 to 512 tokens"):
            encoder.embed(ids, pooling="cls", normalize=True)
