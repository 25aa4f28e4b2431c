"""A run computes in one precision throughout: steps, held-out scores, and what follows a restart."""

from pathlib import Path
from typing import Any

import pytest
import torch
from clinical_modernbert.artifacts import Store, open_store
from clinical_modernbert.errors import ModelError, RecipeError
from clinical_modernbert.recipe import PretrainRecipe, build_recipe, read_recipe
from clinical_modernbert.training import loop, worker
from clinical_modernbert.training.launch import pretrain_in_process

from tests.helpers.flash import install_flash
from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan

SHIPPED = read_recipe("pretrain/a100-2x8")
FLASH = (
    f"scaling.attention={SHIPPED['scaling']['attention']}",
    f"training.precision={SHIPPED['training']['precision']}",
    "held_out_loss.every_steps=3",
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path))
    publish_tiny_corpus(store)
    return store


def test_flash_attention_runs_from_the_first_step_to_the_export(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the A100 recipes do: held-out scores between steps, a checkpoint, a resume and an export of the best state."""
    dtypes = install_flash(monkeypatch)
    plan = tiny_pretrain_plan(store, *FLASH, "training.export=best", "checkpoint.every_steps=3", "training.num_steps=9")
    real = loop.train_step

    def dies_at_step_7(*args: Any, step: int, **kwargs: Any) -> Any:
        if step == 7:
            raise KeyboardInterrupt
        return real(*args, step=step, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", dies_at_step_7)
        with pytest.raises(KeyboardInterrupt):
            pretrain_in_process(plan)
    model = pretrain_in_process(plan)
    assert model.summary["num_steps"] == 9 and model.summary["precision"] == "bfloat16"
    assert model.summary["held_out"]["uniform_loss"] > 0
    assert set(dtypes) == {torch.bfloat16}


def test_held_out_scores_of_bfloat16_are_those_of_float32_to_rounding(store: Store) -> None:
    """Top-k above all: logits in bfloat16 tie, and a tie counts against the model."""
    few = ("training.num_steps=2", "held_out_loss.max_rows=32")
    exact, rounded = (
        pretrain_in_process(tiny_pretrain_plan(store, *few, f"training.precision={precision}", name=precision))
        for precision in ("float32", "bfloat16")
    )
    for name, value in exact.summary["held_out"].items():
        assert rounded.summary["held_out"][name] == pytest.approx(value, abs=0.02), name


@pytest.mark.parametrize("name", ["a100-2x8", "a100-8x8"])
def test_flash_attention_in_float32_is_refused_by_the_recipe(name: str) -> None:
    recipe = read_recipe(f"pretrain/{name}")
    with pytest.raises(RecipeError, match=r"torch_varlen needs training\.precision=bfloat16"):
        build_recipe(PretrainRecipe, recipe, overrides=["training.precision=float32"], origin=name)


def test_auto_precision_that_is_float32_stops_flash_attention_before_the_first_step(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_flash(monkeypatch)
    monkeypatch.setattr(worker, "has_bfloat16", lambda device: False)
    plan = tiny_pretrain_plan(store, "scaling.attention=torch_varlen", "training.precision=auto")
    with pytest.raises(ModelError, match=r"training\.precision=auto is float32 .* scaling\.attention=packed_sdpa"):
        pretrain_in_process(plan)
