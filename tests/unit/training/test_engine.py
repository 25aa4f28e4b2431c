"""Each ZeRO stage trains through the whole loop, with the gradient norm that plain torch measures."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from clinical_modernbert.artifacts import Artifact, Store, make_plan, open_store
from clinical_modernbert.recipe import MergeRecipe, build_recipe
from clinical_modernbert.training.launch import pretrain_in_process
from clinical_modernbert.training.merge import merge
from safetensors.torch import load_file

from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process group of this process alone, as DeepSpeed needs one; it keeps the first group that it sees."""
    file = tmp_path_factory.mktemp("group") / "group"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_RANK", "0")
        dist.init_process_group("gloo", init_method=f"file://{file}", rank=0, world_size=1)
        yield
        dist.destroy_process_group()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "store"))
    publish_tiny_corpus(store)
    return store


def curve(model: Artifact, name: str) -> list[float]:
    return [point[name] for point in json.loads(model.file("history.json").read_text()) if "loss" in point]


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("stage", [0, 1])
def test_every_zero_stage_records_the_gradient_norm_of_plain_torch(store: Store, stage: int) -> None:
    # The batch grows from one micro-batch to two after the second step.
    few = (
        "training.num_steps=4",
        "optimizer.max_gradient_norm=0.5",
        "training.batch_warmup={start_rows: 8, tokens: 1000}",
    )
    plain = pretrain_in_process(tiny_pretrain_plan(store, *few, name="plain"))
    sharded = pretrain_in_process(
        tiny_pretrain_plan(store, *few, "scaling.engine=deepspeed", f"scaling.zero_stage={stage}", name="zero")
    )
    assert curve(sharded, "gradient_norm") == pytest.approx(curve(plain, "gradient_norm"), rel=1e-4)
    assert curve(sharded, "loss") == pytest.approx(curve(plain, "loss"), rel=1e-5)


@pytest.mark.usefixtures("group")
def test_a_kept_state_of_deepspeed_extends_a_run_and_is_averaged(store: Store) -> None:
    steady = ("scaling.engine=deepspeed", "optimizer.schedule=constant", "masking.rate_end=0.3", "masking.odds_end=4")
    whole = pretrain_in_process(tiny_pretrain_plan(store, *steady, "training.num_steps=6", name="whole"))
    keep = ("checkpoint.keep_after_export=true", "checkpoint.every_steps=2", "checkpoint.keep=null")
    first = pretrain_in_process(tiny_pretrain_plan(store, *steady, *keep, "training.num_steps=4", name="first"))
    extended = pretrain_in_process(
        tiny_pretrain_plan(store, *steady, "training.num_steps=6", "training.continue_from=first@4", name="extended")
    )
    assert curve(extended, "loss") == curve(whole, "loss")
    models = [{"source": "first@4"}, {"source": first.manifest.id}]
    values = {"kind": "merge", "name": "same", "corpus": "tiny", "sequence_length": 64, "models": models}
    same = merge(make_plan(build_recipe(MergeRecipe, values, origin="test"), store))
    expected = load_file(first.file("model/model.safetensors"))
    merged = load_file(same.file("model/model.safetensors"))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in merged.items())


class _Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self._folder,)


@pytest.mark.usefixtures("group")
def test_a_file_that_the_manifest_does_not_name_is_not_loaded(store: Store, tmp_path: Path) -> None:
    """DeepSpeed looks for ``mp_rank_*_model_states.pt`` in the folder and unpickles the first one."""
    overrides = ("scaling.engine=deepspeed", "checkpoint.keep_after_export=true", "training.num_steps=4")
    plan = tiny_pretrain_plan(store, *overrides, "checkpoint.every_steps=2", name="guarded")
    pretrain_in_process(plan)
    root = Path(store.uri.removeprefix("file://"))
    weights = [root / item.key for item in store.walk(f"checkpoint/{plan.id}") if item.key.endswith("_model_states.pt")]
    assert weights
    for path in weights:
        torch.save(_Code(tmp_path / "ran"), path.with_name("mp_rank_!_model_states.pt"))
        assert min(path.parent.glob("mp_rank_*_model_states.pt")) != path
    further = ("scaling.engine=deepspeed", "training.num_steps=6", "training.continue_from=guarded@4")
    assert pretrain_in_process(tiny_pretrain_plan(store, *further, name="further")).summary["num_steps"] == 6
    assert not (tmp_path / "ran").exists()
