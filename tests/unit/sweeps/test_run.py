"""How many trials run side by side, and which may not."""

import logging
from typing import Any

import pytest
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe import PretrainRecipe, SweepRecipe, build_recipe
from clinical_modernbert.sweeps.run import example_trials, fitting
from clinical_modernbert.sweeps.trials import sweep_base

from tests.helpers.tiny import TINY_PRETRAIN


def trial(**scaling: Any) -> PretrainRecipe:
    values = {**TINY_PRETRAIN, "scaling": {**TINY_PRETRAIN["scaling"], **scaling}}
    return build_recipe(PretrainRecipe, values, origin="test")


@pytest.mark.parametrize(
    ("asked", "scaling", "resources", "expected"),
    [
        (4, {}, {"CPU": 8.0}, 4),  # as many as asked for, not as many as there is room for
        (4, {"num_workers": 2}, {"CPU": 5.0}, 2),
        (4, {"num_workers": 2, "cpus_per_worker": 1.5}, {"CPU": 9.0}, 3),
        (4, {"cpus_per_worker": 0.5}, {"CPU": 1.0}, 2),
        (4, {"num_workers": 2, "use_gpu": True}, {"CPU": 64.0, "GPU": 4.0}, 2),
        (4, {"num_workers": 2, "use_gpu": True}, {"CPU": 2.0, "GPU": 8.0}, 1),
        (4, {"num_workers": 2}, {"CPU": 1.0}, 1),  # one trial starts, and says itself what it lacks
        (4, {"use_gpu": True}, {"CPU": 8.0}, 1),
    ],
)
def test_no_more_trials_than_the_cluster_has_room_for(
    asked: int,
    scaling: dict[str, Any],
    resources: dict[str, float],
    expected: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, logger="clinical_modernbert.runtime"):
        assert fitting(asked, [trial(**scaling)], resources) == expected
    assert bool(caplog.messages) == (expected < asked)


def test_the_widest_trial_decides() -> None:
    assert fitting(4, [trial(), trial(num_workers=2), trial()], {"CPU": 4.0}) == 2


@pytest.mark.parametrize(
    ("own", "widths"),
    [
        ({"arms": {"one": [], "two": ["scaling.num_workers=2", "training.num_steps=9"]}, "seeds": [0]}, [1, 2]),
        ({"space": {"training.num_steps": {"type": "grid", "values": [2, 1]}}}, [1, 1]),
        (
            {
                "space": {"optimizer.learning_rate": {"type": "log_uniform", "low": 1e-4, "high": 1e-2}},
                "sampler": "tpe",
                "num_trials": 2,
            },
            [1],
        ),
    ],
)
def test_the_room_is_asked_for_with_the_workers_of_the_trials(own: dict[str, Any], widths: list[int]) -> None:
    values = {"kind": "sweep", "name": "s", "base": "pretrain/demo", "corpus": "x", **own}
    recipe = build_recipe(SweepRecipe, {**values, "overrides": ["scaling.num_workers=1"]}, origin="test")
    assert [
        example.scaling.num_workers for example in example_trials(recipe, sweep_base(recipe, data_id="x"))
    ] == widths


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"space": {"training.seed": {"type": "grid", "values": [1, 2, 1]}}}, r"space: .* training\.seed=1 differ in"),
        ({"space": {"scaling.num_workers": {"type": "grid", "values": [1, 2]}}}, r"space: scaling\.num_workers=1 and"),
        (
            {"arms": {"a": [], "b": ["masking.rate_end=0.3"], "c": ["masking.rate_start=0.3"]}},
            "arms: a and c differ in nothing that changes the model",
        ),
    ],
)
def test_trials_that_make_one_model_are_refused(own: dict[str, Any], message: str) -> None:
    """Side by side they would write the same files."""
    values = {"kind": "sweep", "name": "s", "base": "pretrain/demo", "corpus": "x", **own}
    with pytest.raises(RecipeError, match=message):
        sweep_base(build_recipe(SweepRecipe, values, origin="test"), data_id="x")
