"""A run in two phases on real text, what else one can make of its first phase, and what each gained on held-out notes.

    python -m benchmarks.two_phases <data> [--steps 400]    # <data> as docs/demo.md describes it

Builds the two corpora of pretrain/two_phases in ``build/two-phases`` and trains in this process with one thread. After each model
it prints the table so far and writes ``table.md``, ``curves.json`` and ``curves.png``. Run again, it continues from the newest
checkpoint. Another number of steps is another run; the second phase has a quarter of the first one's.

Of one seed. The intervals are over documents alone, so they do not say what another seed would give.
"""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from clinical_modernbert.artifacts import Artifact, Store, make_plan, open_store
from clinical_modernbert.corpus.build import build_corpus
from clinical_modernbert.corpus.fingerprint_inputs import fingerprint_inputs
from clinical_modernbert.corpus.shards import PackedRows
from clinical_modernbert.encoder import load_model, products_in
from clinical_modernbert.masking import token_ranges
from clinical_modernbert.recipe import CorpusRecipe, MergeRecipe, PretrainRecipe, load_recipe
from clinical_modernbert.recipe.training_run import CodeProbeSection
from clinical_modernbert.statistics import mean_intervals
from clinical_modernbert.tokenizer import load_tokenizer
from clinical_modernbert.training.code_probe import build_probe
from clinical_modernbert.training.corpora import merge_plan, pretrain_plan
from clinical_modernbert.training.held_out import MaskedPositions, score_rows
from clinical_modernbert.training.launch import pretrain_in_process
from clinical_modernbert.training.merge import merge

CORPORA = ("small-general", "small-notes")
NOTES = CORPORA[1]
CONTROL = "longer, constant rate"
"""The model that the others are compared with: as many steps, and neither notes nor decay."""

Figures = Mapping[str, Mapping[str, float]]
"""Corpus -> its figures."""
Overrides = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One model of the table."""

    title: str
    figures: Figures
    purity: float
    """Of the ten nearest codes of other categories, the share of the same chapter."""
    scored: MaskedPositions | None = None
    """Hidden tokens of held-out notes; None for a state in the middle of a run."""


def first_run(steps: int) -> Overrides:
    """Return the overrides of the run in two phases."""
    every, first = steps // 8, "training.phases.0.num_steps"
    return (
        *(f"{first}={steps}", f"training.phases.1.num_steps={steps // 4}"),
        *(f"held_out_loss.every_steps={every}", f"checkpoint.every_steps={every}"),
        *("held_out_loss.max_rows=256", "held_out_loss.codes={max_codes: 1000}"),
    )


def branches(run: str, steps: int) -> dict[str, Overrides]:
    """Return the overrides of what is made of the first phase of ``run`` besides its own second one."""
    common = (*first_run(steps), f"training.continue_from={run}@{steps}")
    mixture = "{" + ", ".join(f"{corpus}: 1" for corpus in CORPORA) + "}"
    longer = f"{{sequence_length: 128, num_steps: {steps + steps // 4}, schedule: constant, mask_rate: 0.3}}"
    return {
        CONTROL: (*common, "name=longer", f"training.phases=[{longer}]"),
        "decay on general text": (*common, "name=on-general", "training.phases.1.corpora={}"),
        "decay on both, equal shares": (*common, "name=on-both", f"training.phases.1.corpora={mixture}"),
    }


def averaged(run: str, longer: str, steps: int) -> list[str]:
    """Return the last three states at the constant rate."""
    every = steps // 8
    return [f"{run}@{steps}", *(f"{longer}@{steps + number * every}" for number in (1, 2))]


def main(data: str, steps: int) -> None:
    """Build, train, average and print."""
    if steps < 8 or steps % 8:
        raise SystemExit(f"--steps {steps}: must be a multiple of 8")
    recipes, scratch = Path("jobs/recipes").resolve(), Path("build/two-phases").resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    if not (scratch / "data").exists():
        (scratch / "data").symlink_to(Path(data).resolve())
    os.chdir(scratch)  # the recipes read ./data
    store, began = open_store(str(scratch / "store")), time.monotonic()
    notes = _build_corpora(store, recipes)
    torch.set_num_threads(1)
    first = _train(store, recipes, "name=two-phases", *first_run(steps))
    curves = {"decay on notes": _curve(first)}
    lines = [
        _line("first phase", curves["decay on notes"], steps=steps),
        _line("decay on notes", curves["decay on notes"], export=first, notes=notes),
    ]
    _tell(lines, curves, steps, began)
    made = {}
    for title, overrides in branches(first.manifest.id, steps).items():
        made[title] = _train(store, recipes, *overrides)
        curves[title] = _curve(made[title])
        lines.append(_line(title, curves[title], export=made[title], notes=notes))
        _tell(lines, curves, steps, began)
    states = averaged(first.manifest.id, made[CONTROL].manifest.id, steps)
    exports = [model.manifest.id for model in (first, made["decay on general text"])]
    for title, name, sources in (
        ("average of three states at the constant rate", "average", states),
        ("average of both decayed models", "both-decayed", exports),
    ):
        average = _average(store, recipes, name, sources)
        found = {corpus: figures["overall"] for corpus, figures in average.summary["held_out_by_corpus"].items()}
        lines.append(Line(title, _by_name(found), _purity(average), _scored(average, notes)))
        _tell(lines, curves, steps, began)


def _build_corpora(store: Store, recipes: Path) -> Artifact:
    """Build both corpora and return the notes."""
    general = _corpus(store, recipes, "corpus/small_general")
    notes = _corpus(store, recipes, "corpus/small_notes", f"tokenizer.base={general.folder('tokenizer')}")
    ray.shutdown()  # its processes would take time from the training
    return notes


def _corpus(store: Store, recipes: Path, name: str, *overrides: str) -> Artifact:
    recipe = load_recipe(CorpusRecipe, name, overrides=overrides, recipes_path=recipes)
    plan = make_plan(recipe, store, raw_inputs=fingerprint_inputs(recipe))
    return plan.existing() or build_corpus(plan)


def _train(store: Store, recipes: Path, *overrides: str) -> Artifact:
    recipe = load_recipe(PretrainRecipe, "pretrain/two_phases", overrides=overrides, recipes_path=recipes)
    _say(f"training {recipe.name}: {recipe.training.total_steps} steps in all")
    plan = pretrain_plan(recipe, store)
    return plan.existing() or pretrain_in_process(plan)


def _average(store: Store, recipes: Path, name: str, sources: Sequence[str]) -> Artifact:
    models = json.dumps([{"source": source} for source in sources])
    overrides = [f"name={name}", "corpus=small-general", f"models={models}"]
    plan = merge_plan(load_recipe(MergeRecipe, "merge/last_three", overrides=overrides, recipes_path=recipes), store)
    return plan.existing() or merge(plan)


def _curve(model: Artifact) -> list[dict[str, Any]]:
    """Steps done, and the figures of each corpus by its name."""
    points = [point for point in json.loads(model.file("history.json").read_text()) if "held_out" in point]
    return [
        {
            "steps": point["step"] + 1,
            "purity": point["held_out"]["codes_purity_outside"],
            **_by_name({corpus: figures["overall"] for corpus, figures in point["corpora"].items()}),
        }
        for point in points
    ]


def _by_name(figures: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    return {name: of for name in CORPORA for corpus, of in figures.items() if corpus.rpartition("-")[0] == name}


def _line(
    title: str,
    curve: Sequence[Mapping[str, Any]],
    *,
    steps: int | None = None,
    export: Artifact | None = None,
    notes: Artifact | None = None,
) -> Line:
    """The line of a model after ``steps``, or of the exported one."""
    point = next(p for p in reversed(curve) if steps in (None, p["steps"]))
    scored = _scored(export, notes) if export and notes else None
    figures = {name: point[name] for name in CORPORA if name in point}
    if scored and NOTES not in figures:  # a run that never reads notes does not score them
        figures[NOTES] = {"uniform_loss": scored.loss, "uniform_top1": scored.accuracy(1)}
    return Line(title, figures, point["purity"], scored)


def _tell(lines: Sequence[Line], curves: Mapping[str, Any], steps: int, began: float) -> None:
    """Write what is known so far."""
    control = next((line.scored for line in lines if line.title == CONTROL), None)
    rows = ["| weights | general: loss | top-1 | notes: loss | top-1 | notes: loss less the control's | codes |"]
    rows.append("|---|--:|--:|--:|--:|---|--:|")
    for line in lines:
        cells = [f"{line.figures[c]['uniform_loss']:.3f} | {line.figures[c]['uniform_top1']:.2%}" for c in CORPORA]
        compared = line.scored and control and line.scored is not control
        gain = _difference(line.scored, control) if compared and line.scored and control else ""
        rows.append(f"| {line.title} | {' | '.join(cells)} | {gain} | {line.purity:.3f} |")
    Path("table.md").write_text("\n".join(rows) + "\n", encoding="utf-8")
    Path("curves.json").write_text(json.dumps(curves, indent=1), encoding="utf-8")
    _plot(curves, steps, Path("curves.png"))
    _say("\n".join(rows))
    _say(f"after {(time.monotonic() - began) / 60:.1f} minutes of this process")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _difference(ours: MaskedPositions, control: MaskedPositions) -> str:
    """The difference of the mean loss at hidden tokens of held-out notes, with a 95 % interval over documents."""
    documents, places_N = np.unique(ours.documents_N, return_inverse=True)
    sums_G = np.bincount(places_N, weights=ours.losses_N - control.losses_N)
    counts_G = np.bincount(places_N).astype(np.float64)
    (low,), (high,) = mean_intervals(sums_G[:, None], counts_G, num_resamples=2000)
    return f"{sums_G.sum() / counts_G.sum():+.3f} [{low:+.3f}, {high:+.3f}], {len(documents)} documents"


def _purity(model: Artifact) -> float:
    folder = model.folder("model")
    loaded = load_model(folder).eval()
    probe = build_probe(CodeProbeSection(), load_tokenizer(folder), max_tokens=loaded.config.max_position_embeddings)
    return probe.figures(loaded)["codes_purity_outside"]


def _scored(model: Artifact, notes: Artifact) -> MaskedPositions:
    rows = PackedRows(notes, row_length=128, split="held_out")
    chunks = np.array_split(np.arange(len(rows)), -(-len(rows) // 32))
    tokens = token_ranges(load_tokenizer(notes.folder("tokenizer")))
    with products_in("float32", torch.device("cpu")):
        return score_rows(load_model(model.folder("model")).eval(), rows, chunks, kind="uniform", tokens=tokens)


def _plot(curves: Mapping[str, Sequence[dict[str, Any]]], steps: int, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, corpus in zip(axes, CORPORA, strict=True):
        for title, points in curves.items():
            own = [p for p in points if corpus in p and (title == "decay on notes" or p["steps"] >= steps)]
            values = [point[corpus]["uniform_loss"] for point in own]
            axis.plot([point["steps"] for point in own], values, marker=".", linewidth=1.2, label=title)
        axis.axvline(steps, color="grey", linewidth=0.7)
        axis.set_title(f"held out, {corpus.removeprefix('small-')}", fontsize=9)
        axis.set_xlabel("optimizer step", fontsize=9)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("loss under the uniform mask, nats", fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--steps", type=int, default=400, help="of the first phase, a multiple of 8")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    main(options.data, options.steps)
