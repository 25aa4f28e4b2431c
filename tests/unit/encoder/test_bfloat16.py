"""bfloat16 in inference: near float32, in float32 where rounding would add up, and admitted only after a comparison."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clinical_modernbert.encoder import Encoder, choose_precision, has_bfloat16, load_export, to_bfloat16
from clinical_modernbert.encoder.bfloat16 import NUM_TEXTS, Bfloat16Linear, compare
from clinical_modernbert.encoder.forward import states, word_logits
from clinical_modernbert.errors import ModelError

native = pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="this CPU does not multiply bfloat16")
emulated = pytest.mark.skipif(has_bfloat16(torch.device("cpu")), reason="this CPU multiplies bfloat16")


@pytest.fixture(scope="module")
def narrow(encoder: Encoder) -> Encoder:
    return replace(encoder, model=to_bfloat16(copy.deepcopy(encoder.model)), precision="bfloat16")


def test_states_are_near_those_in_float32_and_float32_themselves(encoder: Encoder, narrow: Encoder) -> None:
    ids = encoder.tokenize(["chest pain", "warfarin 5 mg daily was held. " * 9, "x"])
    with torch.inference_mode():
        exact_TD, found_TD = states(encoder.model, ids), states(narrow.model, ids)
        assert found_TD.dtype == word_logits(narrow.model, found_TD).dtype == torch.float32
    assert not torch.equal(found_TD, exact_TD)
    assert torch.cosine_similarity(found_TD, exact_TD).min() > 0.999


def test_layers_are_bfloat16_and_embeddings_norms_and_head_are_not(narrow: Encoder) -> None:
    kinds = {name: parameter.dtype for name, parameter in narrow.model.named_parameters()}
    halves = {name for name, kind in kinds.items() if kind == torch.bfloat16}
    assert halves == {name for name in kinds if "Wqkv" in name or "Wo" in name or "Wi" in name}


def test_other_architectures_run_too(encoder_folders: dict[str, Path]) -> None:
    for pooling in ("cls", "mean"):
        exact = load_export(encoder_folders["bert"])
        other = replace(exact, model=to_bfloat16(load_export(encoder_folders["bert"]).model))
        ids = exact.tokenize(["no acute distress", "x"])
        vectors = other.embed(ids, pooling=pooling, normalize=True)
        np.testing.assert_allclose(vectors, exact.embed(ids, pooling=pooling, normalize=True), atol=2e-2)
        assert any(isinstance(layer, Bfloat16Linear) for layer in other.model.modules())


def test_equal_encoders_agree_wholly_and_a_damaged_one_does_not(encoder: Encoder) -> None:
    same = compare(encoder, encoder, pooling="mean")
    assert (same.num_texts, same.overlap_at_10) == (NUM_TEXTS, 1.0)
    assert same.lowest_cosine == pytest.approx(1.0)
    damaged = replace(encoder, model=copy.deepcopy(encoder.model))
    with torch.no_grad():
        damaged.model.model.final_norm.weight[::2] *= -1
    assert compare(encoder, damaged, pooling="mean").lowest_cosine < 0.999


@native
def test_bfloat16_is_admitted_with_its_figures(export: Path) -> None:
    for wanted in ("bfloat16", "auto"):
        encoder = load_export(export, precision=wanted, pooling="mean")
        assert encoder.precision == "bfloat16"
        assert encoder.agreement is not None and encoder.agreement.lowest_cosine >= 0.999
    assert load_export(export).agreement is None


@native
def test_a_model_that_rounding_damages_is_refused_and_auto_stays_in_float32(encoder: Encoder) -> None:
    fragile = replace(encoder, model=copy.deepcopy(encoder.model))
    with torch.no_grad():
        # Attention that is almost a choice of one token: rounding changes the choice.
        for layer in fragile.model.model.layers:
            layer.attn.Wqkv.weight *= 1000
    assert choose_precision(fragile, "auto", pooling="cls") is fragile
    with pytest.raises(ModelError, match=r"precision=bfloat16: the lowest cosine of 50 texts.* below 0\.999.*float32"):
        choose_precision(fragile, "bfloat16", pooling="cls")


@emulated
def test_hardware_without_bfloat16_is_refused_and_auto_stays_in_float32(encoder: Encoder) -> None:
    assert choose_precision(encoder, "auto", pooling="cls") is encoder
    with pytest.raises(ModelError, match="does not multiply bfloat16"):
        choose_precision(encoder, "bfloat16", pooling="cls")
