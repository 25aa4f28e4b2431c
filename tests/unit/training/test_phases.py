"""Phases and schedules as functions of the step: lengths, rows, learning rate, and recipes that can't be."""

from typing import Any

import pytest
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe import PretrainRecipe, build_recipe, load_recipe
from clinical_modernbert.recipe.optimizer import OptimizerSection
from clinical_modernbert.training.phases import lay_out, phase_at
from clinical_modernbert.training.schedule import learning_rate

THREE = [
    {"sequence_length": 64, "num_steps": 60},
    {"sequence_length": 128, "num_steps": 30, "global_rope_theta": 160_000},
    {"sequence_length": 64, "tokens": 64 * 16 * 10 - 5},
]


def recipe(
    *,
    phases: list[dict[str, Any]] | None = None,
    optimizer: dict[str, Any] | None = None,
    num_workers: int = 2,
    **training: Any,
) -> PretrainRecipe:
    values = {"sequence_length": 64, "batch_rows": 16, **training, **({"phases": phases} if phases else {})}
    return build_recipe(
        PretrainRecipe,
        {
            "kind": "pretrain",
            "name": "p",
            "corpus": "c",
            "training": values,
            "optimizer": optimizer or {},
            "scaling": {"num_workers": num_workers, "micro_batch_rows": 4},
        },
        origin="test",
    )


def rates(phases: Any, section: OptimizerSection) -> list[float]:
    return [learning_rate(step, phases=phases, section=section) for step in range(phases[-1].end_step)]


def test_the_short_form_is_one_phase() -> None:
    (phase,) = lay_out(recipe(num_steps=12))
    assert (phase.first_step, phase.end_step, phase.batch_rows(3), phase.micro_batch_rows) == (0, 12, 16, 4)
    assert recipe().training.total_steps == 150_000


def test_phases_follow_each_other_with_constant_tokens_a_step() -> None:
    phases = lay_out(recipe(phases=THREE))
    assert [(p.first_step, p.end_step) for p in phases] == [(0, 60), (60, 90), (90, 100)]
    assert {p.batch_rows(p.first_step) * p.sequence_length for p in phases} == {16 * 64}
    assert {p.micro_batch_rows * p.sequence_length for p in phases} == {4 * 64}
    assert [p.mixture.first_rows for p in phases] == [(0,), (0,), (60 * 16,)]
    assert {p.mixture.corpora for p in phases} == {("c",)}
    assert [p.global_rope_theta for p in phases] == [None, 160_000, 160_000]
    assert [phase_at(phases, step).number for step in (0, 59, 60, 89, 90, 99)] == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match="outside the run's 100 steps"):
        phase_at(phases, 100)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"phases": THREE, "num_steps": 5}, "exclude each other"),
        ({"phases": [{"sequence_length": 64}]}, "num_steps or tokens"),
        ({"phases": [{"sequence_length": 64, "num_steps": 1, "tokens": 1}]}, "num_steps or tokens"),
        ({"phases": [{"sequence_length": 64, "num_steps": 1, "learning_rate": 1e-3}]}, "need a schedule"),
        ({"phases": [{"sequence_length": 64, "num_steps": 1, "schedule": "wsd"}]}, "one phase schedule=constant"),
        ({"phases": [{**THREE[0], "schedule": "cosine"}, THREE[1]]}, "either every phase"),
        ({"phases": [{"sequence_length": 48, "num_steps": 1}]}, "must divide the tokens of a step"),
        ({"phases": [{"sequence_length": 512, "num_steps": 1}]}, "tokens of a micro-batch"),
    ],
)
def test_impossible_phases_are_refused_by_name(training: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(**training)


def test_a_recipe_survives_being_written_and_read() -> None:
    first = recipe(phases=THREE)
    assert PretrainRecipe.model_validate(first.model_dump(mode="json")) == first


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        ("cosine", {9: 1.0, 54: 0.6071, 99: 0.2}),
        ("linear", {9: 1.0, 54: 0.6045, 99: 0.2}),
        ("constant", {9: 1.0, 54: 1.0, 99: 1.0}),
        ("one_minus_sqrt", {9: 1.0, 10: 1.0, 54: 0.4374, 99: 0.2}),
        ("wsd", {9: 1.0, 79: 1.0, 80: 1.0, 85: 0.5896, 99: 0.2}),
    ],
)
def test_schedules_at_start_middle_and_end(schedule: str, values: dict[int, float]) -> None:
    section = OptimizerSection(
        learning_rate=1.0, schedule=schedule, warmup_fraction=0.1, decay_fraction=0.2, final_fraction=0.2
    )
    found = rates(lay_out(recipe(num_steps=100)), section)
    assert found[0] == pytest.approx(0.1) and found[4] == pytest.approx(0.5)
    assert max(found) == pytest.approx(1.0)
    for step, value in values.items():
        assert found[step] == pytest.approx(value, abs=2e-3), step


@pytest.mark.parametrize("num_steps", [100, 200])
@pytest.mark.parametrize(
    "unit", [{"warmup_steps": 10, "decay_steps": 20}, {"warmup_tokens": 9_217, "decay_tokens": 20_480}]
)
def test_steps_and_tokens_of_warm_up_and_decay_stay_where_a_run_is_longer(num_steps: int, unit: dict[str, int]) -> None:
    """A step of the test's recipe has 1,024 tokens; 9,217 tokens are ten steps, the last not full."""
    section = OptimizerSection(learning_rate=1.0, schedule="wsd", warmup_fraction=0.5, decay_fraction=0.9, **unit)  # type: ignore[arg-type]
    found = rates(lay_out(recipe(num_steps=num_steps)), section)
    assert found[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert found[10 : num_steps - 19] == [1.0] * (num_steps - 29)
    assert found[num_steps - 19] < 1 and found[-1] == 0


def test_batches_grow_over_the_tokens_of_the_warm_up() -> None:
    """Sizes 4, 8, 12 for 1,000 tokens each, in whole steps; then batches as large as 16 rows, in both phases."""
    warmup = {"start_rows": 4, "tokens": 3_000}
    phases = [{"sequence_length": 64, "tokens": 10_000}, {"sequence_length": 128, "tokens": 2_048}]
    first, second = lay_out(recipe(phases=phases, batch_warmup=warmup, num_workers=1))
    rows = [first.batch_rows(step) for step in range(first.end_step)]
    assert rows == [4, 4, 4, 4, 8, 8, 12, 12, 16, 16, 16, 16, 16, 16, 16]
    assert sum(rows) * 64 >= 10_000 > sum(rows[:-1]) * 64  # the phase ends with the step that reads its last token
    places = [first.place(step, skipped=0) for step in range(first.end_step)]
    assert places == [sum(rows[:step]) for step in range(first.end_step)]
    assert first.place(5, skipped=2) == sum(rows[:7])
    assert (second.mixture.first_rows, second.batch_rows(second.first_step), second.num_steps) == ((0,), 8, 2)


def test_tokens_of_a_warm_up_of_the_rate_are_counted_in_smaller_batches_too() -> None:
    section = OptimizerSection(learning_rate=1.0, warmup_tokens=2_048 + 1, schedule="constant")
    warmup = {"start_rows": 4, "tokens": 3_000}
    # 1,024 tokens in four steps of 4 rows, 1,024 in two of 8, and one token of the next.
    found = rates(lay_out(recipe(num_steps=20, batch_warmup=warmup, num_workers=1)), section)
    assert found[:8] == pytest.approx([n / 7 for n in range(1, 8)] + [1.0])


@pytest.mark.parametrize(
    ("warmup", "message"),
    [
        ({"start_rows": 5, "tokens": 1}, "start_rows=5 must divide batch_rows=16 and be below it"),
        ({"start_rows": 16, "tokens": 1}, "start_rows=16 must divide batch_rows=16 and be below it"),
        ({"start_rows": 4, "tokens": 1}, r"start_rows=4 must be a multiple of scaling\.num_workers .* = 8"),
        ({"start_rows": 8, "tokens": 99_999}, r"takes 196 steps, the first phase has 100: it must end in the first"),
    ],
)
def test_impossible_batch_warm_ups_are_refused_by_name(warmup: dict[str, int], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(num_steps=100, batch_warmup=warmup)


@pytest.mark.parametrize("unit", [{"warmup_steps": 4}, {"warmup_tokens": 3 * 1024 + 1}])
def test_steps_and_tokens_of_a_phase_s_warm_up(unit: dict[str, int]) -> None:
    phases = [{"sequence_length": 64, "num_steps": n, "schedule": "constant", **unit} for n in (8, 80)]
    found = rates(lay_out(recipe(phases=phases)), OptimizerSection(learning_rate=1.0))
    assert found[:5] == found[8:13] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"warmup_steps": 1, "warmup_tokens": 1}, "warmup_steps=1 and warmup_tokens=1 exclude each other"),
        ({"schedule": "wsd", "decay_steps": 1, "decay_tokens": 1}, "decay_steps=1 and decay_tokens=1 exclude"),
        ({"decay_steps": 1}, "belong to schedule=wsd, got schedule=cosine"),
        ({"warmup_steps": 101}, "a warm-up of 101 steps does not fit into the run's 100 steps"),
        ({"schedule": "wsd", "warmup_steps": 60, "decay_steps": 50}, "60 steps and a decay of 50 does not fit"),
    ],
)
def test_impossible_warm_ups_are_refused_by_name(optimizer: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(num_steps=100, optimizer=optimizer)


def test_odds_of_a_phase_are_refused_where_no_token_is_preferred() -> None:
    phases = [{"sequence_length": 64, "num_steps": 8}, {"sequence_length": 64, "num_steps": 8, "salience_odds": 2}]
    with pytest.raises(RecipeError, match=r"phases\.1\.salience_odds has no effect with masking\.strategy=uniform"):
        build_recipe(
            PretrainRecipe, recipe(phases=phases).model_dump(), overrides=["masking.strategy=uniform"], origin="uniform"
        )


def test_a_warm_up_longer_than_its_phase_is_refused_by_name() -> None:
    phases = [{"sequence_length": 64, "num_steps": 8, "schedule": "cosine", "warmup_steps": n} for n in (8, 9)]
    with pytest.raises(RecipeError, match=r"training\.phases\.1: a warm-up of 9 steps .* the phase's 8 steps"):
        recipe(phases=phases)


def test_a_schedule_of_the_run_spans_its_phases() -> None:
    section = OptimizerSection(learning_rate=1.0, warmup_fraction=0.1)
    assert rates(lay_out(recipe(phases=THREE)), section) == rates(lay_out(recipe(num_steps=100)), section)


def test_phases_with_schedules_of_their_own() -> None:
    phases = lay_out(
        recipe(
            phases=[
                {"sequence_length": 64, "num_steps": 80, "schedule": "constant", "warmup_fraction": 0.1},
                {"sequence_length": 64, "num_steps": 20, "schedule": "one_minus_sqrt", "learning_rate": 0.5},
            ]
        )
    )
    found = rates(phases, OptimizerSection(learning_rate=1.0))
    assert found[7] == 1.0 and found[3] == pytest.approx(0.5) and found[79] == 1.0
    assert found[80] == 0.5 and found[99] == pytest.approx(0.0)
    assert found[85] == pytest.approx(0.5 * (1 - (5 / 19) ** 0.5))


@pytest.mark.parametrize(
    ("name", "steps", "lengths"),
    [
        ("paper", 150_000, {128}),
        ("long", None, {128, 1024, 8192}),
        ("continued", None, {8192}),
        ("demo", None, {128}),
        ("ci", None, {64, 128}),
    ],
)
def test_the_shipped_recipes(name: str, steps: int | None, lengths: set[int]) -> None:
    found = load_recipe(PretrainRecipe, f"pretrain/{name}")
    phases = lay_out(found)
    assert {p.sequence_length for p in phases} == lengths
    assert found.training.total_steps == steps or steps is None
    assert len({p.course.full * p.sequence_length for p in phases}) == 1
