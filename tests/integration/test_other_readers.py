"""Every kind of export is the same model to transformers 4.57 and 5, and has the names that Rust's readers require."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.artifacts import Store, make_plan, open_store
from clinical_modernbert.evaluation.runs import run
from clinical_modernbert.recipe import FineTuneRecipe, MergeRecipe, build_recipe
from clinical_modernbert.training.launch import contrast_in_process, pretrain_in_process
from clinical_modernbert.training.merge import merge

from tests.helpers.pairs import publish_tiny_pairs, tiny_contrast_plan
from tests.helpers.reading import Reading, read_model
from tests.helpers.runs import DRUG_TASK, ROLE_TASK, task_files, tiny_run_plan  # noqa: F401  # task_files is a fixture
from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan
from tests.helpers.transformers_4 import read_by_transformers_4

pytestmark = pytest.mark.slow

# RoPE bases and an order of layers that are no reader's defaults, and a window shorter than the text.
SHAPE = (
    "model.num_layers=5",
    "model.global_every_layers=2",
    "model.local_rope_theta=700",
    "training.num_steps=null",
    "training.phases=[{sequence_length: 64, num_steps: 4}, {sequence_length: 64, num_steps: 4, global_rope_theta: 80000}]",
)
KINDS = ("pretrained", "bfloat16", "average", "vectors", "tokens", "sequences")


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory, task_files: Path) -> dict[str, Path]:  # noqa: F811
    """The folder of each kind of export, made by its job."""
    root = tmp_path_factory.mktemp("store")
    store = open_store(str(root))
    publish_tiny_corpus(store)
    publish_tiny_pairs(store)
    model = pretrain_in_process(tiny_pretrain_plan(store, *SHAPE))
    folder = model.folder("model")
    rounded = pretrain_in_process(tiny_pretrain_plan(store, *SHAPE, "export.dtype=bfloat16", name="rounded"))
    tuned = {
        name: run(tiny_run_plan(FineTuneRecipe, task, folder, task_files, str(root), tuning={"num_epochs": 1}))
        for name, task in (("tokens", DRUG_TASK), ("sequences", ROLE_TASK))
    }
    return {
        "pretrained": folder,
        "bfloat16": rounded.folder("model"),
        "average": _average(store, model.manifest.id, rounded.manifest.id),
        "vectors": contrast_in_process(tiny_contrast_plan(store, folder)).folder("model"),
        **{name: artifact.folder("model") for name, artifact in tuned.items()},
    }


def _average(store: Store, *models: str) -> Path:
    sources = [{"source": model} for model in models]
    values = {"kind": "merge", "name": "average", "corpus": "tiny", "sequence_length": 64, "models": sources}
    return merge(make_plan(build_recipe(MergeRecipe, values, origin="test"), store)).folder("model")


@pytest.fixture(scope="module")
def by_4(exports: dict[str, Path]) -> dict[str, Reading]:
    return read_by_transformers_4(exports)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_4_reads_the_same_model(kind: str, exports: dict[str, Path], by_4: dict[str, Reading]) -> None:
    ours, theirs = read_model(exports[kind]), by_4[kind]
    assert theirs["version"].startswith("4.57.") and ours["version"].startswith("5.")
    assert theirs["not_loaded"] == ours["not_loaded"] == []
    assert theirs["ids"] == ours["ids"]
    assert theirs["longest"] == ours["longest"] == 256
    for name in ("output", "vector"):
        np.testing.assert_allclose(theirs[name], ours[name], atol=2e-5, err_msg=name)


# Fields without a default in text-embeddings-inference (modernbert.rs below backends/candle, lib.rs of the router) and in candle
# (modernbert.rs of candle-transformers), as of November 2026.
_NUMBERS_OF_BOTH = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "pad_token_id",
    "global_rope_theta",
    "global_attn_every_n_layers",
    "local_attention",
    "local_rope_theta",
)
_OF_INFERENCE: dict[str, type] = {
    **dict.fromkeys(("initializer_range", "initializer_cutoff_factor", "norm_eps", "attention_dropout"), float),
    **dict.fromkeys(("eos_token_id", "bos_token_id", "cls_token_id", "sep_token_id"), int),
    **dict.fromkeys(("norm_bias", "attention_bias"), bool),
    **dict.fromkeys(("hidden_activation", "classifier_activation", "model_type"), str),
    "architectures": list,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_config_has_what_rusts_readers_require(kind: str, exports: dict[str, Path]) -> None:
    config: dict[str, Any] = json.loads((exports[kind] / "config.json").read_text())
    assert all(isinstance(config.get(name), int | float) for name in _NUMBERS_OF_BOTH)
    assert {name: type(config.get(name)) for name in _OF_INFERENCE} == _OF_INFERENCE
    assert config["layer_norm_eps"] == config["norm_eps"], "candle's name"
    if kind in ("tokens", "sequences"):
        # text-embeddings-inference takes a classifier without num_labels for one of one label.
        assert config["num_labels"] == len(config["id2label"]) == len(config["label2id"]) > 1
