"""Held-out figures by source, and before the first step of a run that starts from trained weights."""

import json
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.artifacts import Artifact, Store
from clinical_modernbert.training.launch import pretrain_in_process

from tests.helpers.tiny import tiny_pretrain_plan


@pytest.fixture(scope="module")
def first(store: Store) -> Artifact:
    keep = ("checkpoint.keep_after_export=true", "optimizer.schedule=constant", "training.num_steps=8")
    return pretrain_in_process(tiny_pretrain_plan(store, *keep, name="first"))


def held_out(model: Artifact) -> list[dict[str, Any]]:
    return [point for point in json.loads(model.file("history.json").read_text()) if "held_out" in point]


def test_each_source_has_its_figures_and_they_make_up_the_whole(first: Artifact) -> None:
    (point,) = held_out(first)
    (found,) = point["corpora"].values()
    assert found["overall"] == point["held_out"] and point["mixture"] == {first.summary["corpus"]: 1.0}
    right, left = found["by_source"]["right"], found["by_source"]["left"]
    assert set(right) == set(left) == set(point["held_out"]) and right != left
    for name, whole in point["held_out"].items():
        assert min(right[name], left[name]) - 1e-9 <= whole <= max(right[name], left[name]) + 1e-9
    assert first.summary["held_out_by_corpus"] == point["corpora"]
    card = (first.folder("model") / "README.md").read_text()
    assert f"| {first.summary['corpus']} | left | {left['uniform_loss']:.4f} | {left['uniform_top1']:.2%} |" in card


@pytest.mark.parametrize("start", ["model.init=first", "training.continue_from=first@8"])
def test_a_run_from_trained_weights_is_scored_before_its_first_step(store: Store, first: Artifact, start: str) -> None:
    """The first figures are those of the weights that it starts from."""
    steps = "training.num_steps=9" if "continue" in start else "training.num_steps=1"
    # Not a schedule that ends at a rate of 0: the last step must change something.
    model = pretrain_in_process(tiny_pretrain_plan(store, start, steps, "optimizer.schedule=constant", name="next"))
    before, after = held_out(model)[-2:]
    assert before["step"] == (7 if "continue" in start else -1)
    assert before["held_out"] == pytest.approx(first.summary["held_out"])
    assert after["held_out"] != before["held_out"]


def test_a_run_from_random_weights_is_not_scored_before_its_first_step(store: Store, tmp_path: Path) -> None:
    model = pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=2", name="scratch"))
    assert [point["step"] for point in held_out(model)] == [1]
