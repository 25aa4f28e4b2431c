"""What a sampler proposes while trials run."""

from pathlib import Path

from clinical_modernbert.recipe import SweepRecipe, build_recipe
from clinical_modernbert.sweeps.proposals import Proposals, searcher
from ray import tune


def test_a_point_that_comes_again_waits_for_the_trial_that_trains_its_model(tmp_path: Path) -> None:
    values = {
        "kind": "sweep",
        "name": "s",
        "base": "pretrain/demo",
        "corpus": "c",
        "space": {"training.seed": {"type": "choice", "values": [3]}},
        "sampler": "random",
        "num_trials": 3,
    }
    proposals = Proposals(f"file://{tmp_path}", "s-1")
    search = searcher(build_recipe(SweepRecipe, values, origin="test"), proposals, metric="cost")
    search.set_search_properties("cost", "min", {"training.seed": tune.choice([3])})
    point = {"training.seed": 3}
    assert search.suggest("a") == point
    assert search.suggest("b") is search.suggest("c") is None
    search.on_trial_complete("a", {"cost": 1.0})
    assert search.suggest("d") == point
    assert search.suggest("e") is None
    search.on_trial_complete("d", {"cost": 1.0})
    assert search.suggest("f") == point
    assert proposals.read() == [point] * 3
