"""The shipped pretraining recipes mean what their first line says."""

from pathlib import Path

import pytest
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe import PretrainRecipe, load_recipe


def load(repository: Path, name: str, *overrides: str) -> PretrainRecipe:
    return load_recipe(
        PretrainRecipe, f"pretrain/{name}", overrides=overrides, recipes_path=repository / "jobs" / "recipes"
    )


@pytest.mark.parametrize(
    ("name", "num_workers", "accumulation", "tokens"),
    [("a100-2x8", 16, 2, 13_516_800_000), ("a100-8x8", 64, 3, 47_006_613_504)],
)
def test_a100_recipes_fill_every_worker(
    repository: Path, name: str, num_workers: int, accumulation: int, tokens: int
) -> None:
    recipe = load(repository, name)
    scaling, training = recipe.scaling, recipe.training
    assert (scaling.num_workers, scaling.engine, scaling.zero_stage) == (num_workers, "deepspeed", 1)
    assert scaling.use_gpu and scaling.overlap and training.precision == "bfloat16"
    assert training.batch_rows == num_workers * scaling.micro_batch_rows * accumulation
    assert training.total_steps * training.batch_tokens == tokens


def test_rows_that_do_not_divide_by_the_workers_are_said(repository: Path) -> None:
    with pytest.raises(RecipeError, match=r"batch_rows=677 must be a multiple of .* 16 \* 22 = 352"):
        load(repository, "a100-2x8", "training.batch_rows=677")
    with pytest.raises(RecipeError, match=r"batch_rows=704 must be a multiple of .* 24 \* 22 = 528"):
        load(repository, "a100-2x8", "scaling.num_workers=24")


@pytest.mark.parametrize("override", ["scaling.engine=torch", "scaling.zero_stage=0", "scaling.use_gpu=false"])
def test_overlap_without_what_it_needs_is_refused(repository: Path, override: str) -> None:
    with pytest.raises(RecipeError, match=r"scaling\.overlap needs engine=deepspeed"):
        load(repository, "a100-2x8", override)


def test_smoke_evaluates_and_checkpoints_on_its_way(repository: Path) -> None:
    recipe = load(repository, "smoke")
    steps = recipe.training.total_steps
    assert recipe.held_out_loss.every_steps and recipe.held_out_loss.every_steps < steps
    assert recipe.checkpoint.every_steps and recipe.checkpoint.every_steps < steps
