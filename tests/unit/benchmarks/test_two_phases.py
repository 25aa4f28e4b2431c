"""The recipes of the run in two phases: what is compared differs in one thing, and what is averaged is kept."""

from pathlib import Path

from clinical_modernbert.recipe import PretrainRecipe, load_recipe

from benchmarks.two_phases import CONTROL, Overrides, averaged, branches, first_run


def test_every_branch_ends_after_as_many_steps_and_its_states_are_there(repository: Path) -> None:
    def recipe(overrides: Overrides) -> PretrainRecipe:
        recipes = repository / "jobs" / "recipes"
        return load_recipe(PretrainRecipe, "pretrain/two_phases", overrides=overrides, recipes_path=recipes)

    first = recipe(first_run(80))
    made = {title: recipe(overrides) for title, overrides in branches("two-phases-1", 80).items()}
    for branch in made.values():
        assert branch.training.total_steps == first.training.total_steps == 100
        assert branch.training.continue_from == "two-phases-1@80"
        assert (branch.masking, branch.optimizer, branch.model) == (first.masking, first.optimizer, first.model)
    (constant,) = made[CONTROL].training.phases
    before = first.training.phases[0]
    assert (constant.schedule, constant.mask_rate, constant.corpora) == (before.schedule, before.mask_rate, {})
    corpora = [list(branch.training.phases[-1].corpora) for branch in (first, *made.values())]
    assert corpora == [["small-notes"], [], [], ["small-general", "small-notes"]]
    every = first.checkpoint.every_steps
    assert every and averaged("a", "b", 80) == ["a@80", "b@90", "b@100"] and every == 10
