"""A trial is two strings: its recipe and overrides give the same plan by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.artifacts import Manifest, Store, open_store, resolve, upload, write_manifest
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe import (
    ContrastRecipe,
    PretrainRecipe,
    SweepRecipe,
    build_recipe,
    load_recipe,
    read_recipe,
)
from clinical_modernbert.sweeps.trials import (
    base_inputs,
    known_points,
    sweep_base,
    sweep_plan,
    trial_overrides,
    trial_recipe,
)

from tests.helpers.pairs import publish_tiny_pairs

VALUES = {
    "kind": "sweep",
    "name": "s",
    "base": "pretrain/demo",
    "corpus": "demo",
    "overrides": ["training.num_steps=3"],
    "space": {
        "optimizer.learning_rate": {"type": "grid", "values": [3e-3, 1e-5]},
        "masking.strategy": {"type": "grid", "values": ["token_aware", "uniform"]},
    },
}


def sweep(**changes: object) -> SweepRecipe:
    return build_recipe(SweepRecipe, {**VALUES, **changes}, origin="test")


def test_a_grid_visits_every_combination_once() -> None:
    points = known_points(sweep())
    assert len(points) == 4
    assert {(p["optimizer.learning_rate"], p["masking.strategy"]) for p in points} == {
        (rate, strategy) for rate in (3e-3, 1e-5) for strategy in ("token_aware", "uniform")
    }


def test_overrides_typed_by_hand_give_the_trials_recipe() -> None:
    base = sweep_base(sweep(), data_id="demo-0123456789ab")
    for point in known_points(sweep()):
        overrides = trial_overrides(base, point)
        by_hand = build_recipe(PretrainRecipe, read_recipe("pretrain/demo"), overrides=overrides, origin="hand")
        assert by_hand == trial_recipe(base, point)
        assert by_hand.optimizer.learning_rate == point["optimizer.learning_rate"]
        assert by_hand.training.num_steps == 3 and by_hand.corpus == "demo-0123456789ab"


def test_a_sweep_of_an_edited_base_is_another_sweep(tmp_path: Path) -> None:
    path = tmp_path / "base.yaml"
    path.write_text("kind: pretrain\nname: a\ncorpus: x\n")
    before = base_inputs(sweep(base=str(path)))
    assert before == base_inputs(sweep(base=str(path)))
    path.write_text("kind: pretrain\nname: a\ncorpus: x\nmodel: {num_layers: 3}\n")
    assert before != base_inputs(sweep(base=str(path)))


@pytest.mark.parametrize(
    ("space", "named"),
    [
        ({"optimizer.learning_rat": {"type": "grid", "values": [1.0]}}, "learning_rate"),
        ({"optimizer.learning_rate": {"type": "grid", "values": [-1.0]}}, "optimizer.learning_rate"),
    ],
)
def test_a_space_that_does_not_fit_is_refused_before_anything_runs(space: dict, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        sweep_base(sweep(space=space), data_id="x")


@pytest.mark.parametrize(
    "dimension", [{"type": "log_uniform", "low": 1e-5, "high": 1e-2}, {"type": "choice", "values": [1e-3, 1e-2]}]
)
def test_a_drawn_dimension_needs_another_sampler(dimension: dict[str, Any]) -> None:
    space = {"optimizer.learning_rate": dimension}
    with pytest.raises(RecipeError, match="sampler=grid needs"):
        sweep(space=space)
    assert sweep(space=space, sampler="tpe", num_trials=4).num_trials == 4


ABLATION = {
    "kind": "sweep",
    "name": "s",
    "base": "pretrain/demo",
    "corpus": "demo",
    "overrides": ["training.num_steps=3"],
    "arms": {"aware": [], "constant": ["masking.rate_start=0.15"]},
    "seeds": [0, 7],
}


def ablation(**changes: object) -> SweepRecipe:
    return build_recipe(SweepRecipe, {**ABLATION, **changes}, origin="test")


def test_an_ablation_runs_each_arm_with_each_seed_whole_comparisons_first() -> None:
    points = known_points(ablation())
    assert points == [
        {"arm": "aware", "seed": 0},
        {"arm": "constant", "seed": 0},
        {"arm": "aware", "seed": 7},
        {"arm": "constant", "seed": 7},
    ]
    base = sweep_base(ablation(), data_id="x")
    trial = trial_recipe(base, points[3])
    assert trial.training.seed == 7 and trial.masking.rate_start == 0.15 and trial.training.num_steps == 3
    assert trial_overrides(base, points[3])[-2:] == ["masking.rate_start=0.15", "training.seed=7"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"space": {"training.seed": {"type": "grid", "values": [1]}}}, "either a space"),
        ({"arms": {}}, "either a space"),
        ({"baseline": "other"}, "baseline='other' is not an arm"),
        ({"seeds": [1, 1]}, "seeds must be distinct"),
        ({"arms": {"a": ["training.seed = 3"]}}, r"arms \['a'\] set training.seed"),
        ({"overrides": ["training.seed=3"]}, "overrides set training.seed: .* list it there"),
        ({"num_trials": 5}, "all run to the end"),
        ({"halving": {"grace_steps": 1}}, "all run to the end"),
    ],
)
def test_an_ablation_that_cannot_be_is_refused(changes: dict, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        ablation(**changes)


def test_an_arm_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(RecipeError, match=r"(?s)arms.wrong does not fit pretrain/demo.*rate_start"):
        sweep_base(ablation(arms={"aware": [], "wrong": ["masking.rate_start=3"]}), data_id="x")


@pytest.mark.parametrize(
    ("grace_steps", "own", "named"),
    [
        (2, [], r"held_out_loss.every_steps is None: set it in overrides, to 2 or a divisor"),
        (3, ["held_out_loss.every_steps=2"], r"held_out_loss.every_steps is 2: set it in overrides, to 3 or a divisor"),
        (6, ["held_out_loss.every_steps=2"], r"no rung before the end of a trial of 6 steps"),
    ],
)
def test_halving_needs_losses_at_its_rungs(grace_steps: int, own: list[str], named: str) -> None:
    overrides = ["training.num_steps=6", *own]
    with pytest.raises(RecipeError, match=named):
        sweep_base(sweep(halving={"grace_steps": grace_steps}, overrides=overrides), data_id="x")
    fits = ["training.num_steps=6", "held_out_loss.every_steps=1"]
    assert sweep_base(sweep(halving={"grace_steps": 2}, overrides=fits), data_id="x").base == "pretrain/demo"


@pytest.mark.parametrize(
    "name", ["masking", "learning_rate", "learning_rate_search", "templates", "scaling", "demo", "vectors"]
)
def test_shipped_sweeps_fit_their_base(name: str) -> None:
    recipe = load_recipe(SweepRecipe, f"sweep/{name}")
    assert sweep_base(recipe, data_id="x").base == recipe.base


def test_table_5_crosses_selection_and_rate() -> None:
    base = sweep_base(recipe := load_recipe(SweepRecipe, "sweep/masking"), data_id="x")
    trials = [trial_recipe(base, {"arm": arm, "seed": 0}).masking for arm in recipe.arms]
    crossed = {(m.strategy, m.rate_start, m.rate_end) for m in trials}
    rates = ((0.30, 0.15), (0.30, 0.30), (0.15, 0.15))
    assert crossed == {(strategy, *rate) for strategy in ("token_aware", "uniform") for rate in rates}


def publish_corpus(store: Store, corpus_id: str, *, text: str = "rows", words: tuple[str, ...] = ("a", "b")) -> None:
    """Publish what a plan reads of a corpus: its manifest and the vocabulary of its tokenizer."""
    vocabulary = {word: n for n, word in enumerate(words[1:], 1)}
    tokenizer = {"model": {"vocab": vocabulary}, "added_tokens": [{"id": 0, "content": words[0]}]}
    prefix, local = f"corpus/{corpus_id}", Path(store.uri.removeprefix("file://")) / "made"
    files = []
    for path, content in (("rows.npy", text), ("tokenizer/tokenizer.json", json.dumps(tokenizer))):
        local.parent.mkdir(exist_ok=True)
        local.write_text(content)
        files.append(upload(store, prefix, path, local))
    write_manifest(
        store,
        prefix,
        Manifest(
            kind="corpus",
            id=corpus_id,
            fingerprint=corpus_id.rpartition("-")[2],
            format_version=1,
            recipe={},
            inputs=(),
            summary={},
            files=files,
        ),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "store"))
    publish_corpus(store, "demo-1")
    publish_corpus(store, "one-1", text="one")
    return store


PHASE = "{sequence_length: 128, num_steps: 3, corpora: {%s}}"
ON_CORPORA = [
    ablation(arms={"both": [], "one": ["corpus=one"]}),
    ablation(overrides=["training.num_steps=3", "corpus=one"]),
    sweep(space={"corpus": {"type": "grid", "values": ["demo", "one"]}}),
]


@pytest.mark.parametrize("recipe", ON_CORPORA, ids=["arm", "overrides", "space"])
def test_a_rebuilt_corpus_of_an_arm_is_another_sweep_and_trials_name_what_they_had(
    store: Store, recipe: SweepRecipe
) -> None:
    def planned() -> tuple[str, list[str]]:
        plan = sweep_plan(recipe, store)
        assert isinstance(plan.recipe, SweepRecipe)
        base = sweep_base(plan.recipe, data_id="demo-1")
        return plan.id, [trial_recipe(base, point).corpus for point in known_points(plan.recipe)]

    before, had = planned()
    assert planned() == (before, had)
    assert "one-1" in had and set(had) <= {"one-1", "demo-1"}
    store.delete("corpus/one-1/manifest.json")
    publish_corpus(store, "one-2", text="rebuilt")
    after, has = planned()
    assert after != before and has == [name.replace("one-1", "one-2") for name in had]
    publish_corpus(store, "one-2", text="damaged, and built again under its own id")
    assert planned()[0] != after


def test_a_state_that_trials_continue_is_an_input(store: Store) -> None:
    manifest = Manifest(
        kind="checkpoint",
        id="small-1/5",
        fingerprint="1",
        format_version=1,
        recipe={},
        inputs=(),
        summary={"step": 5},
        files=[],
    )
    write_manifest(store, "checkpoint/small-1/000000005-a", manifest)
    branch = ["training.num_steps=9", "training.continue_from=small@5"]
    plan = sweep_plan(ablation(arms={"a": branch, "b": ["training.num_steps=9"]}), store)
    assert ("training.continue_from small@5", "model/small-1@5") in [(entry.name, entry.id) for entry in plan.inputs]


def test_a_corpus_with_another_tokenizer_is_refused_before_any_trial(store: Store) -> None:
    publish_corpus(store, "other-1", words=("b", "a"))
    with pytest.raises(RecipeError, match=r"arms.wrong: corpus other-1 has another tokenizer than demo-1"):
        sweep_plan(ablation(arms={"both": [], "wrong": ["corpus=other"]}), store)


def test_a_pretraining_recipe_names_no_artifact_but_its_corpora() -> None:
    phases = ["training.num_steps=null", f"training.phases=[{PHASE % 'notes: 1, codes: 2'}]"]
    recipe = trial_recipe(sweep_base(sweep(overrides=phases), data_id="x"), known_points(sweep())[0])
    named = {name for _, name in recipe.references().values()}
    assert named == {"x", "notes", "codes"} and {kind for kind, _ in recipe.references().values()} == {"corpus"}


@pytest.mark.parametrize("where", ["base", "arms", "overrides", "path", "space"])
def test_corpora_of_phases_are_pinned_wherever_they_are_named(store: Store, tmp_path: Path, where: str) -> None:
    """As ``corpus`` is: trials name ids, and a rebuilt corpus gives another sweep."""
    base = tmp_path / "base.yaml"
    named = PHASE % ("one: 3, demo: 1" if where in ("base", "path", "space") else "")
    base.write_text(
        f"{{kind: pretrain, name: a, corpus: x, training: {{batch_rows: 32, phases: [{named}]}}, "
        "scaling: {num_workers: 1, micro_batch_rows: 8}}"
    )
    override, weight = f"training.phases=[{PHASE % 'one: 3, demo: 1'}]", "training.phases.0.corpora.one"
    recipe = {
        "base": ablation(base=str(base), overrides=[], arms={"a": [], "b": ["optimizer.beta2=0.9"]}),
        "arms": ablation(base=str(base), overrides=[], arms={"a": [], "b": [override]}),
        "overrides": ablation(base=str(base), overrides=[override], arms={"a": [], "b": ["optimizer.beta2=0.9"]}),
        "path": ablation(base=str(base), overrides=[], arms={"a": [], "b": [f"{weight}=9"]}),
        "space": sweep(base=str(base), overrides=[], space={weight: {"type": "grid", "values": [1, 9]}}),
    }[where]

    def planned() -> tuple[str, dict[str, float]]:
        plan = sweep_plan(recipe, store)
        again = sweep_plan(plan.recipe, store)
        assert again.recipe == plan.recipe, "a planned sweep is planned the same again"
        trial = trial_recipe(sweep_base(plan.recipe, data_id="demo-1"), known_points(plan.recipe)[1])
        return plan.id, trial.training.phases[0].corpora

    before, had = planned()
    assert had == {"one-1": 9.0 if where in ("path", "space") else 3.0, "demo-1": 1.0}
    store.delete("corpus/one-1/manifest.json")
    publish_corpus(store, "one-2", text="rebuilt")
    after, has = planned()
    assert after != before and list(has) == ["one-2", "demo-1"]


VECTORS = {
    "kind": "sweep",
    "name": "v",
    "base": "contrast/demo",
    "pairs": "codes",
    "arms": {"warm": [], "cold": ["training.temperature=0.02"], "no parents": ["training.weights.parents=0"]},
}


def vector_sweep(**changes: object) -> SweepRecipe:
    values = {name: value for name, value in {**VECTORS, **changes}.items() if value is not None}
    return build_recipe(SweepRecipe, values, origin="test")


def test_trials_of_a_contrastive_base_are_its_recipe_on_the_pair_set() -> None:
    recipe = vector_sweep()
    base = sweep_base(recipe, data_id="codes-0123456789ab")
    assert base.kind.metric == "pair_recall1"
    for point in known_points(recipe):
        overrides = trial_overrides(base, point)
        by_hand = build_recipe(ContrastRecipe, read_recipe("contrast/demo"), overrides=overrides, origin="hand")
        assert by_hand == trial_recipe(base, point) and by_hand.pairs == "codes-0123456789ab"
        assert by_hand.training.temperature == (0.02 if point["arm"] == "cold" else 0.05)
        assert by_hand.training.weights == ({"parents": 0} if point["arm"] == "no parents" else {})
        assert by_hand.training.seed == point["seed"]


SPACE = {"training.temperature": {"type": "log_uniform", "low": 0.01, "high": 0.2}}
SEARCH = {"arms": None, "space": SPACE, "sampler": "tpe", "num_trials": 8}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"corpus": "demo"}, "either a corpus .* or pairs"),
        ({"pairs": None}, "either a corpus .* or pairs"),
        ({"pairs": None, "corpus": "demo"}, "base='contrast/demo' is of kind contrast: set pairs, not corpus"),
        ({"base": "pretrain/demo"}, "base='pretrain/demo' is of kind pretrain: set corpus, not pairs"),
        ({"base": "pairs/codes"}, "of kind pairs: the trials of a sweep are of kind pretrain or contrast"),
        ({"comparison": {"fit": True}}, "comparison.fit is of the masked-language loss"),
        ({"arms": {"a": ["training.split=all"]}}, "arms.a does not fit contrast/demo: training.split=all"),
        ({**SEARCH, "overrides": ["training.split=all"]}, "training.split=all trains on the held-out pairs"),
        ({**SEARCH, "space": {"pairs": {"type": "choice", "values": ["codes"]}}}, "space has pairs: .* name arms"),
        (
            {**SEARCH, "space": {"held_out.max_pairs": {"type": "choice", "values": [9]}}},
            "space has held_out.max_pairs",
        ),
        ({**SEARCH, "halving": {"grace_steps": 30}}, "held_out.every_steps is 100: set it in overrides, to 30"),
        (
            {**SEARCH, "halving": {"grace_steps": 50}, "overrides": ["held_out.every_steps=null"]},
            "held_out.every_steps is None",
        ),
    ],
)
def test_a_sweep_of_vectors_that_cannot_be_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        sweep_base(vector_sweep(**changes), data_id="x")


def test_a_search_of_vectors_may_stop_early() -> None:
    assert sweep_base(vector_sweep(**SEARCH, halving={"grace_steps": 100}), data_id="x").base == "contrast/demo"


def test_a_pair_set_or_corpus_of_an_arm_is_an_input_by_its_id(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    for name in ("codes", "more"):
        publish_tiny_pairs(store, name)
    publish_corpus(store, "demo-1")
    ids = {name: resolve(store, "pairs", name).manifest.id for name in ("codes", "more")}
    (tmp_path / "init").mkdir()
    (tmp_path / "init" / "config.json").write_text("{}")
    words = "training.masked_language={batch_rows: 4}"
    arms = {"one": [], "more": ["pairs=more"], "words": ["corpus=demo", words]}
    plan = sweep_plan(vector_sweep(arms=arms, overrides=[f"init={tmp_path / 'init'}"]), store)
    assert plan.recipe.arms == {"one": (), "more": (f"pairs={ids['more']}",), "words": ("corpus=demo-1", words)}
    assert {"pairs", f"arms.more pairs/{ids['more']}", "arms.words corpus/demo-1"} <= {
        entry.name for entry in plan.inputs
    }
    trials = [trial_recipe(sweep_base(plan.recipe, data_id=ids["codes"]), p) for p in known_points(plan.recipe)[:2]]
    assert [trial.references()["pairs"][1] for trial in trials] == [ids["codes"], ids["more"]]
