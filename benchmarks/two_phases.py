"""A run in two phases on real text with what one can make of its first: a branch on each corpus, an extension, an average.

    python -m benchmarks.two_phases <data>    # <data> as docs/demo.md describes it

Builds the two corpora of pretrain/two_phases in ``build/two-phases``, trains in this process, and prints the held-out figures of
both corpora as a table. ``curves.json`` and ``curves.png`` in that folder have every evaluation. Run again, it continues.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from clinical_modernbert.artifacts import Artifact, Store, make_plan, open_store
from clinical_modernbert.corpus.build import build_corpus
from clinical_modernbert.corpus.fingerprint_inputs import fingerprint_inputs
from clinical_modernbert.recipe import CorpusRecipe, MergeRecipe, PretrainRecipe, load_recipe
from clinical_modernbert.runtime import start_ray
from clinical_modernbert.training.launch import pretrain_in_process
from clinical_modernbert.training.merge import merge

FIRST, SECOND = 400, 500
"""Steps of the first phase, and of both."""
FROM_FIRST = ("training.continue_from=two-phases@400",)
SECOND_PHASES = {
    "on-general": (*FROM_FIRST, "training.phases.1.corpora={}"),
    "on-mixture": (*FROM_FIRST, "training.phases.1.corpora={small-general: 1, small-notes: 1}"),
    "extended": (
        *FROM_FIRST,
        "training.phases=[{sequence_length: 128, num_steps: 500, schedule: constant, mask_rate: 0.3}]",
    ),
}
AVERAGED = ("two-phases@400", "extended@450", "extended@500")


def main(data: str) -> None:
    """Build, train and print."""
    scratch = Path("build/two-phases").resolve()
    (scratch / "data").parent.mkdir(parents=True, exist_ok=True)
    if not (scratch / "data").exists():
        (scratch / "data").symlink_to(Path(data).resolve())
    recipes = Path("jobs/recipes").resolve()
    os.chdir(scratch)  # the recipes read ./data
    store = open_store(str(scratch / "store"))
    torch.set_num_threads(1)
    general = _corpus(store, recipes, "corpus/small_general")
    _corpus(store, recipes, "corpus/small_notes", f"tokenizer.base={general.folder('tokenizer')}")
    models = {"two phases: notes": _model(store, recipes, "two-phases")}
    for name, overrides in SECOND_PHASES.items():
        models[name.replace("-", " ")] = _model(store, recipes, name, *overrides)
    curves = {name: _held_out(model) for name, model in models.items()}
    rows = [("after the first phase", _figures(curves["two phases: notes"], FIRST))]
    rows += [(name, _figures(curve, SECOND)) for name, curve in curves.items()]
    rows.append(("average of the last three states of the extension", _average(store, recipes)))
    sys.stdout.write("| weights | general: loss | top-1 | notes: loss | top-1 |\n|---|--:|--:|--:|--:|\n")
    for name, figures in rows:
        cells = [f"{figures[c]['uniform_loss']:.3f} | {figures[c]['uniform_top1']:.2%}" for c in ("general", "notes")]
        sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")
    (scratch / "curves.json").write_text(json.dumps(curves, indent=1), encoding="utf-8")
    _plot(curves, scratch / "curves.png")


def _corpus(store: Store, recipes: Path, name: str, *overrides: str) -> Artifact:
    recipe = load_recipe(CorpusRecipe, name, overrides=overrides, recipes_path=recipes)
    plan = make_plan(recipe, store, raw_inputs=fingerprint_inputs(recipe))
    found = plan.existing()
    if found is None:
        start_ray()
        found = build_corpus(plan)
    return found


def _model(store: Store, recipes: Path, name: str, *overrides: str) -> Artifact:
    recipe = load_recipe(
        PretrainRecipe, "pretrain/two_phases", overrides=[f"name={name}", *overrides], recipes_path=recipes
    )
    plan = make_plan(recipe, store)
    return plan.existing() or pretrain_in_process(plan)


def _average(store: Store, recipes: Path) -> dict[str, dict[str, float]]:
    """The average's figures on each corpus: one merge for each, because a merge scores on one."""
    models, found = json.dumps([{"source": source} for source in AVERAGED]), {}
    for short, corpus in (("general", "small-general"), ("notes", "small-notes")):
        overrides = [f"name=average-{short}", f"corpus={corpus}", f"models={models}", "max_rows=96"]
        plan = make_plan(load_recipe(MergeRecipe, "merge/last_three", overrides=overrides, recipes_path=recipes), store)
        found[short] = (plan.existing() or merge(plan)).summary["held_out"]
    return found


def _held_out(model: Artifact) -> list[dict[str, Any]]:
    """Steps done, and the figures of each corpus by its short name."""
    points = [point for point in json.loads(model.file("history.json").read_text()) if "held_out" in point]
    return [
        {
            "steps": point["step"] + 1,
            **{name.split("-")[1]: figures["overall"] for name, figures in point["corpora"].items()},
        }
        for point in points
    ]


def _figures(curve: Sequence[dict[str, Any]], steps: int) -> dict[str, dict[str, float]]:
    return [point for point in curve if point["steps"] == steps][-1]


def _plot(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, corpus in zip(axes, ("general", "notes"), strict=True):
        for name, points in curves.items():
            drawn = [p for p in points if name == "two phases: notes" or p["steps"] >= FIRST]
            axis.plot([p["steps"] for p in drawn], [p[corpus]["uniform_loss"] for p in drawn], label=name)
        axis.axvline(FIRST, color="grey", linewidth=0.7)
        axis.set(title=f"held-out {corpus}", xlabel="step", ylabel="loss, uniform mask, nats")
    axes[0].legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1])
