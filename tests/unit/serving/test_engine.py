"""The engine: the model of an artifact, whole and by its own name, or an error before anything is served."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clinical_modernbert.encoder import build_model, has_bfloat16
from clinical_modernbert.errors import ArtifactError, ModelError
from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.recipe.pretrain import ModelSection
from clinical_modernbert.serving.engine import load_engine
from clinical_modernbert.serving.forward import EncodeTask
from clinical_modernbert.serving.routes.status import describe
from clinical_modernbert.tokenizer import build_tokenizer, padded_vocabulary_size, special_ids
from pydantic import ValidationError

from tests.helpers.served_models import CORPUS, FINGERPRINT, publish_folder

MODEL_ID = f"tiny-{FINGERPRINT}"


def _recipe(**values: object) -> ServeRecipe:
    return ServeRecipe.model_validate({"name": "tiny", "model": "tiny", **values})


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    tokenizer = build_tokenizer(
        TokenizerSection(base="train", vocabulary_size=320), ["chest pain"], clinical_words=frozenset()
    )
    model = build_model(
        ModelSection(hidden_size=32, intermediate_size=32, num_layers=1, num_heads=2, max_position_embeddings=128),
        vocabulary_size=padded_vocabulary_size(tokenizer),
        special_ids=special_ids(tokenizer),
        seed=0,
    )
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


@pytest.fixture
def root(export: Path, tmp_path: Path) -> Path:
    publish_folder(tmp_path / "store", export, inputs=(CORPUS,))
    return tmp_path / "store"


def test_a_model_answers_to_its_id_and_its_name_and_says_where_it_came_from(root: Path) -> None:
    engine = load_engine(str(root), _recipe(limits={"max_tokens": 8192}))
    assert engine.serves(MODEL_ID)
    assert engine.serves("tiny")
    assert not engine.serves("tiny-0123")
    info = describe(engine)
    assert (info.model, info.fingerprint, info.hidden_size) == (MODEL_ID, "0123456789ab", 32)
    assert [entry.id for entry in info.inputs] == ["corpus/notes-ba9876543210"]
    # What the model itself can read, not what the recipe hopes for.
    assert info.limits.max_tokens == engine.max_tokens == 128


def test_a_batch_is_what_a_second_computes_unless_the_recipe_says_otherwise(root: Path) -> None:
    cold = load_engine(str(root), _recipe())
    assert (cold.tokens_per_s, cold.max_batch_tokens) == (None, 2048)
    warm = cold.warm_up()
    assert warm.tokens_per_s is not None and warm.tokens_per_s > 0
    for speed, expected in ((100.0, 256), (3000.0, 3000), (1e6, 16_384)):
        engine = replace(cold, tokens_per_s=speed)
        assert engine.max_batch_tokens == describe(engine).limits.max_batch_tokens == expected
    assert load_engine(str(root), _recipe(limits={"max_batch_tokens": 99})).warm_up().max_batch_tokens == 99


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="this CPU does not multiply bfloat16")
def test_info_says_the_precision_and_how_it_agrees_with_float32(root: Path) -> None:
    plain, narrow = (describe(load_engine(str(root), _recipe(precision=name))) for name in ("float32", "bfloat16"))
    assert (plain.precision, plain.model_dtype, plain.precision_check) == ("float32", "float32", None)
    assert (narrow.precision, narrow.model_dtype) == ("bfloat16", "bfloat16")
    assert narrow.precision_check is not None and narrow.precision_check.lowest_cosine >= 0.999


def test_vectors_are_cut_first_and_normalised_then(root: Path) -> None:
    engine = load_engine(str(root), _recipe())
    engine.warm_up()
    ids = engine.encoder.tokenize(["chest pain", "none"])
    raw = np.stack(engine.compute([EncodeTask(one) for one in ids]))
    np.testing.assert_allclose(np.linalg.norm(engine.finish(raw, dimensions=8), axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(
        engine.finish(raw, dimensions=None), engine.encoder.embed(ids, pooling="cls", normalize=True), atol=1e-6
    )
    plain = load_engine(str(root), _recipe(normalize=False))
    np.testing.assert_array_equal(plain.finish(raw, dimensions=8), raw[:, :8])


def test_a_damaged_model_is_refused(root: Path) -> None:
    weights = root / "model" / MODEL_ID / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ArtifactError, match="differs from its manifest"):
        load_engine(str(root), _recipe())


def test_pickled_weights_are_not_loaded(export: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled" / "model"
    folder.mkdir(parents=True)
    for path in (export / "model").iterdir():
        name = "pytorch_model.bin" if path.name == "model.safetensors" else path.name
        (folder / name).write_bytes(path.read_bytes())
    publish_folder(tmp_path / "store", folder.parent)
    with pytest.raises(ModelError):
        load_engine(str(tmp_path / "store"), _recipe())


def test_limits_that_refuse_every_large_request_are_refused_themselves() -> None:
    with pytest.raises(ValidationError, match="raise max_queued_texts or lower max_texts"):
        _recipe(limits={"max_texts": 100, "max_queued_texts": 50})


def test_a_model_that_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(ArtifactError, match="absent"):
        load_engine(str(root), _recipe(model="absent"))
