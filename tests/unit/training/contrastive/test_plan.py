"""What of a contrastive recipe cannot work is told with its plan, before a worker starts."""

from pathlib import Path

import pytest
from clinical_modernbert.artifacts import Store, open_store
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.training.contrastive.plan import contrast_plan

from tests.helpers.pairs import publish_tiny_pairs, tiny_contrast_plan


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = open_store(str(tmp_path_factory.mktemp("store")))
    publish_tiny_pairs(store)
    return store


@pytest.fixture
def init(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"hidden_size": 32, "max_position_embeddings": 64}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "training.weights={nope: 2}",
            "training.weights names no source of the pair set: nope; sources are conditions, drugs",
        ),
        ("training.weights={conditions: 0, drugs: 0}", "training.weights leaves no source"),
        (
            "training.weights={drugs: 0.01}",
            "training.weights: source drugs with weight 0.01 has no place in a batch of training.batch_pairs=16",
        ),
        ("optimizer.warmup_steps=13", "a warm-up of 13 steps does not fit into the run's 12 steps"),
        ("optimizer={schedule: wsd, decay_steps: 12}", "a warm-up of 1 steps and a decay of 12 does not fit"),
        ("training.weights={drugs: .inf}", "training.weights.drugs: .*finite"),
        ("training.weights={drugs: .nan}", "training.weights.drugs: .*finite"),
        ("training.temperature=.inf", "training.temperature: .*finite"),
        ("vectors.matryoshka_dims=[32, 16]", r"matryoshka_dims=\[32\] must be below the width of .*, 32"),
        ("vectors.max_tokens=100000", "vectors.max_tokens=100000 is beyond the limit of .*, 64"),
    ],
)
def test_what_cannot_work_is_refused_with_the_plan(store: Store, init: Path, override: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        contrast_plan(tiny_contrast_plan(store, init, override).recipe, store)


@pytest.mark.parametrize("field", ["init", "training.teacher.model"])
@pytest.mark.parametrize("lacking", ["config.json", "model.safetensors"])
def test_a_folder_without_a_model_is_refused_with_the_plan(
    store: Store, init: Path, tmp_path_factory: pytest.TempPathFactory, field: str, lacking: str
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / ({"config.json", "model.safetensors"} - {lacking}).pop()).write_text("{}")
    with pytest.raises(RecipeError, match=rf"{field}: .* holds no model"):
        contrast_plan(tiny_contrast_plan(store, init, f"{field}={other}").recipe, store)


def test_a_batch_with_more_places_than_pairs_is_told(
    store: Store, init: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = contrast_plan(tiny_contrast_plan(store, init, "training.batch_pairs=4").recipe, store)
    assert plan.fingerprint and not caplog.records
    contrast_plan(
        tiny_contrast_plan(store, init, "training.batch_pairs=64", "scaling.micro_batch_pairs=64").recipe, store
    )
    assert "source drugs has 32 places in a batch and " in caplog.text
