"""Training from a checkpoint: in training mode, and refused by name where it would be another model than the recipe says."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.artifacts import Artifact, Store, open_store
from clinical_modernbert.encoder import set_global_rope_theta
from clinical_modernbert.encoder.load import load_model
from clinical_modernbert.errors import ModelError, RecipeError
from clinical_modernbert.training import loop
from clinical_modernbert.training.launch import pretrain_in_process
from safetensors.torch import load_file, save_file

from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Artifact]:
    """A store with a tiny corpus and a model of it."""
    store = open_store(str(tmp_path_factory.mktemp("store")))
    publish_tiny_corpus(store)
    return store, pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=1", name="first"))


@pytest.fixture
def folder(trained: tuple[Store, Artifact], tmp_path: Path) -> Path:
    """A copy of the model's folder, which a test may change."""
    return shutil.copytree(trained[1].folder("model"), tmp_path / "model")


def set_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def train_from(folder: Path, store: Store, *overrides: str) -> None:
    pretrain_in_process(
        tiny_pretrain_plan(store, f"model.init={folder}", "training.num_steps=1", *overrides, name="next")
    )


def test_a_checkpoint_trains_in_training_mode(
    trained: tuple[Store, Artifact], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the dropout of its config would be off."""
    set_config(folder, mlp_dropout=0.5)
    start, step, models, modes = loop.start_run, loop.train_step, [], []

    def noted_start(*args: Any) -> Any:
        run = start(*args)
        models.append(run.model)
        return run

    def noted_step(*args: Any, **kwargs: Any) -> Any:
        modes.append(all(module.training for module in models[0].modules()))
        return step(*args, **kwargs)

    monkeypatch.setattr(loop, "start_run", noted_start)
    monkeypatch.setattr(loop, "train_step", noted_step)
    train_from(folder, trained[0])
    assert modes == [True]


@pytest.mark.parametrize(
    ("config", "override", "message"),
    [
        ({"decoder_bias": False}, "training.seed=0", "decoder_bias=false"),
        ({"attention_dropout": 0.1}, "training.seed=0", r"attention_dropout=0\.1 .* scaling\.attention=packed_sdpa"),
        ({}, "model.num_layers=3", r"model\.num_layers=3 differs from model\.init=.*, which has 2"),
        ({}, "model.global_every_layers=1", r"model\.global_every_layers=1 differs from .* other layers"),
        ({}, "model.local_attention=32", r"model\.local_attention=32 differs from .* which has 16"),
    ],
)
def test_what_the_checkpoint_lacks_is_refused_before_the_first_step(
    trained: tuple[Store, Artifact], folder: Path, config: dict[str, object], override: str, message: str
) -> None:
    set_config(folder, **config)
    if "decoder_bias" in config:
        _drop_weight(folder, "decoder.bias")
    with pytest.raises(ModelError, match=message):
        train_from(folder, trained[0], override)


def test_a_model_of_the_store_continues_by_any_address(trained: tuple[Store, Artifact]) -> None:
    store, first = trained
    plans = [
        tiny_pretrain_plan(store, f"model.init={address}", "training.num_steps=1", name="next")
        for address in (first.manifest.id, first.uri, "first")
    ]
    assert len({plan.fingerprint for plan in plans}) == 1
    model = pretrain_in_process(plans[0])
    assert model.summary["initial_weights"] != first.summary["initial_weights"]
    assert [entry.id for entry in model.manifest.inputs] == [
        f"corpus/{first.summary['corpus']}",
        f"model/{first.manifest.id}",
    ]
    assert f"trained from {first.manifest.id} by" in (model.folder("model") / "README.md").read_text()


def test_other_weights_in_the_same_folder_are_another_run(trained: tuple[Store, Artifact], folder: Path) -> None:
    store, overrides = trained[0], (f"model.init={folder}", "training.num_steps=1")
    before = tiny_pretrain_plan(store, *overrides, name="next")
    path = folder / "model.safetensors"
    save_file({key: tensor + 1 for key, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    assert tiny_pretrain_plan(store, *overrides, name="next").id != before.id
    with pytest.raises(
        ModelError, match=r"model\.init: the files in .* differ from those that the run was planned with"
    ):
        pretrain_in_process(before)


@pytest.mark.parametrize("rope_type", ["linear", "yarn"])
def test_another_base_over_scaled_rope_is_refused(
    trained: tuple[Store, Artifact], folder: Path, rope_type: str
) -> None:
    """The export would have the new base and the old scaling: another model than was trained."""
    ropes = json.loads((folder / "config.json").read_text())["rope_parameters"]
    ropes["full_attention"] |= {"rope_type": rope_type, "factor": 2.0, "original_max_position_embeddings": 128}
    set_config(folder, rope_parameters=ropes)
    phases = (
        "training.num_steps=null",
        "training.phases=[{sequence_length: 64, num_steps: 1, global_rope_theta: 500}]",
    )
    message = rf"global_rope_theta=500 cannot be set: .* rope_type={rope_type}"
    with pytest.raises(ModelError, match=message):
        train_from(folder, trained[0], *phases)
    with pytest.raises(ModelError, match=message):
        set_global_rope_theta(load_model(folder), 500.0)


def test_a_folder_without_its_tokenizer_is_named_with_the_field(trained: tuple[Store, Artifact], folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(RecipeError, match=r"model\.init: .* the folder has no tokenizer\.json"):
        train_from(folder, trained[0])


def test_a_negative_seed_is_refused_by_the_recipe(trained: tuple[Store, Artifact]) -> None:
    with pytest.raises(RecipeError, match=r"training\.seed"):
        tiny_pretrain_plan(trained[0], "training.seed=-1")


def _drop_weight(folder: Path, name: str) -> None:
    path = folder / "model.safetensors"
    save_file({key: tensor for key, tensor in load_file(path).items() if key != name}, path, metadata={"format": "pt"})
