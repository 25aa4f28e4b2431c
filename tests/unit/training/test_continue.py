"""Runs that continue a kept state of another: extended to the bit, branched, refused where the state does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from clinical_modernbert.artifacts import Artifact, Store
from clinical_modernbert.errors import ModelError, RecipeError
from clinical_modernbert.training.launch import pretrain_in_process
from safetensors.torch import load_file

from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan

CONSTANT = (
    *("optimizer.schedule=constant", "optimizer.warmup_fraction=0"),
    *("masking.rate_end=0.3", "masking.odds_end=4"),
)
KEEP = ("checkpoint.keep_after_export=true", "checkpoint.keep=null")


@pytest.fixture(scope="module")
def parent(store: Store) -> Artifact:
    """Eight steps, with states after steps 3, 6 and 8."""
    plan = tiny_pretrain_plan(
        store, *CONSTANT, *KEEP, "training.num_steps=8", "checkpoint.every_steps=3", name="parent"
    )
    return pretrain_in_process(plan)


def weights(model: Artifact) -> dict[str, torch.Tensor]:
    return load_file(model.file("model/model.safetensors"))


def points(model: Artifact) -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = json.loads(model.file("history.json").read_text())
    return [point for point in history if "loss" in point]


def assert_equal_to_the_bit(one: Artifact, other: Artifact) -> None:
    expected = weights(other)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(one).items())


@pytest.mark.parametrize("step", [3, 6, 8])
def test_an_extended_run_ends_as_an_unbroken_one(store: Store, parent: Artifact, step: int) -> None:
    """A constant schedule does not depend on the length, so that both runs have the same steps."""
    length = "training.num_steps=12"
    whole = pretrain_in_process(tiny_pretrain_plan(store, *CONSTANT, length, name="whole"))
    plan = tiny_pretrain_plan(store, *CONSTANT, length, f"training.continue_from=parent@{step}", name=f"from-{step}")
    extended = pretrain_in_process(plan)
    assert_equal_to_the_bit(extended, whole)
    assert [p["loss"] for p in points(extended)] == [p["loss"] for p in points(whole)]
    (state,) = (entry for entry in extended.manifest.inputs if entry.id == f"model/{parent.manifest.id}@{step}")
    assert extended.summary["initial_weights"] == state.digest, "not the digest of weights that the state replaces"


def test_a_branch_decays_from_a_state_and_another_length_is_another_run(store: Store, parent: Artifact) -> None:
    def branch(num_steps: int) -> Artifact:
        decay = ("optimizer.schedule=wsd", f"optimizer.decay_fraction={(num_steps - 6) / num_steps}")
        overrides = (*CONSTANT, *decay, f"training.num_steps={num_steps}", "training.continue_from=parent@6")
        return pretrain_in_process(tiny_pretrain_plan(store, *overrides, name="branch"))

    short, long = branch(8), branch(10)
    assert short.manifest.id != long.manifest.id
    for model, num_steps in ((short, 8), (long, 10)):
        rates = [point["learning_rate"] for point in points(model)]
        assert rates[:6] == [3e-3] * 6 and rates[-1] == 0 and len(rates) == num_steps
    assert len(store.names(f"checkpoint/{parent.manifest.id}")) == 3, "a branch leaves the states of its parent"


def test_a_continued_run_that_is_killed_resumes_from_its_own_state(
    store: Store, parent: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clinical_modernbert.training import loop

    overrides = (*CONSTANT, "training.num_steps=12", "training.continue_from=parent@6", "checkpoint.every_steps=2")
    whole = pretrain_in_process(tiny_pretrain_plan(store, *overrides, name="unbroken"))
    plan, real = tiny_pretrain_plan(store, *overrides, name="killed"), loop.train_step
    started: list[int] = []

    def dies_at_step_11(*args: Any, step: int, **kwargs: Any) -> Any:
        started.append(step)
        if step == 11:
            raise KeyboardInterrupt
        return real(*args, step=step, **kwargs)

    monkeypatch.setattr(loop, "train_step", dies_at_step_11)
    with pytest.raises(KeyboardInterrupt):
        pretrain_in_process(plan)
    monkeypatch.setattr(loop, "train_step", lambda *a, step, **k: (started.append(step), real(*a, step=step, **k))[1])
    assert_equal_to_the_bit(pretrain_in_process(plan), whole)
    assert started[0] == 6 and started[6] in (8, 10)


def test_settings_of_the_optimizer_are_those_of_the_new_recipe(store: Store, parent: Artifact) -> None:
    """A loaded optimizer state brings the settings of the run that wrote it."""
    overrides = (*CONSTANT, "training.num_steps=9", "training.continue_from=parent@8")
    plain = pretrain_in_process(tiny_pretrain_plan(store, *overrides, name="same"))
    decayed = pretrain_in_process(tiny_pretrain_plan(store, *overrides, "optimizer.weight_decay=50", name="decayed"))
    name = "model.layers.0.mlp.Wi.weight"
    assert weights(decayed)[name].norm() < 0.9 * weights(plain)[name].norm()


def test_another_corpus_continues_a_run_of_the_same_tokenizer(store: Store, parent: Artifact, tmp_path: Path) -> None:
    publish_tiny_corpus(store, num_documents=60, name="other-tokenizer")
    plan = tiny_pretrain_plan(
        store, "training.num_steps=9", "training.continue_from=parent@8", corpus="other-tokenizer", name="other"
    )
    with pytest.raises(ModelError, match=r"written with \{.*'tokenizer': .*unset training\.continue_from"):
        pretrain_in_process(plan)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (("training.continue_from=parent@5",), RecipeError, r"no state after step 5; it has those after: 3, 6, 8"),
        (("training.continue_from=nobody@5",), RecipeError, r"run 'nobody' has no states .*keep_after_export=true"),
        (("training.continue_from=parent",), RecipeError, r"continue_from=parent is not <run>@<step>"),
        (("training.continue_from=parent@12",), RecipeError, r"continue_from=parent@12 has all of the run's 12 steps"),
        (
            ("training.continue_from=parent@8", "model.num_layers=3"),
            ModelError,
            r"'model': '64 wide, .* layers gl, .* this run has .* layers gll,",
        ),
        (("training.continue_from=parent@8", "training.precision=bfloat16"), ModelError, r"'precision': 'float32'"),
        (
            ("training.continue_from=parent@8", "model.global_rope_theta=20000"),
            ModelError,
            r"written with \{'rope': 'base 160000, local 10000'\}, this run has \{'rope': 'base 20000, local 10000'\}",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    store: Store, parent: Artifact, overrides: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pretrain_in_process(tiny_pretrain_plan(store, *overrides, name="refused"))


def test_states_are_deleted_unless_they_are_kept(store: Store, parent: Artifact) -> None:
    model = pretrain_in_process(
        tiny_pretrain_plan(store, "training.num_steps=4", "checkpoint.every_steps=2", name="plain")
    )
    assert store.names(f"checkpoint/{model.manifest.id}") == []
