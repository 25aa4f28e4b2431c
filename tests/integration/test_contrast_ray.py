"""Contrastive training on Ray Train: two workers see the negatives of both, and give the losses of one."""

import json
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import Artifact, open_store
from clinical_modernbert.training.launch import contrast, contrast_in_process

from tests.helpers.pairs import publish_tiny_pairs, tiny_contrast_plan
from tests.helpers.tiny import save_tiny_model

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def losses(model: Artifact) -> list[float]:
    return [point["loss"] for point in json.loads(model.file("curve.json").read_text()) if "loss" in point]


def test_two_workers_give_the_losses_of_one(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    publish_tiny_pairs(store)
    save_tiny_model(tmp_path / "init", texts=("kidney failure", "burn of the skin"))
    one = contrast_in_process(tiny_contrast_plan(store, tmp_path / "init", name="one"))
    two = contrast(
        tiny_contrast_plan(store, tmp_path / "init", "scaling.num_workers=2", "scaling.micro_batch_pairs=4", name="two")
    )
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    assert two.summary["held_out"] == pytest.approx(one.summary["held_out"], abs=1e-3)
