"""Run the main job: corpus -> pretraining -> sweep -> evaluation -> vectors -> code map -> endpoint, then one screen.

Each step calls the function of its job with the recipe of the same name. Artifacts that exist are not made again.
"""

import argparse
import json
import logging
import os
import socket
import sys
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import transformers

from clinical_modernbert.artifacts import Artifact, InputEntry, Plan, Store, make_plan
from clinical_modernbert.corpus.build import build_corpus
from clinical_modernbert.corpus.fingerprint_inputs import fingerprint_inputs
from clinical_modernbert.corpus.pairs.build import build_pairs, pair_inputs
from clinical_modernbert.demo.data import real_sources
from clinical_modernbert.demo.screen import EndpointCheck, Results, render_screen
from clinical_modernbert.demo.vectors import (
    AFTER,
    BEFORE,
    all_figures,
    answer_lines,
    encoder_of,
    figure_lines,
    initial_encoder,
)
from clinical_modernbert.encoder import load_export, pooling_of
from clinical_modernbert.errors import RecipeError, UserError
from clinical_modernbert.evaluation.codes.lookup import crosswalk
from clinical_modernbert.evaluation.codes.map import map_codes
from clinical_modernbert.evaluation.masked_tokens.score import evaluate
from clinical_modernbert.job import end, open_root
from clinical_modernbert.recipe import (
    ContrastRecipe,
    CorpusRecipe,
    EvaluateRecipe,
    MapRecipe,
    PairsRecipe,
    PretrainRecipe,
    Recipe,
    ServeRecipe,
    SweepRecipe,
    build_recipe,
    read_recipe,
)
from clinical_modernbert.recipe.corpus import HeldOutSection
from clinical_modernbert.runtime import start_ray
from clinical_modernbert.sweeps.run import sweep
from clinical_modernbert.sweeps.trials import sweep_base, sweep_plan
from clinical_modernbert.training.launch import contrast, pretrain

T = TypeVar("T", bound=Recipe)

TEXTS = (
    "Diabetes mellitus without mention of complication",
    "Acute myocardial infarction",
    "Pneumonia, organism unspecified",
)

_KINDS = ("corpus", "pretrain", "sweep", "evaluate", "pairs", "contrast", "map")
_NUM_QUERIES = 500

_logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Run the demo from the command line."""
    parser = argparse.ArgumentParser(description="Run the main job on generated or real data.")
    parser.add_argument("--data", default=None, help="folder with real files, in the layout that docs/demo.md lists")
    parser.add_argument("--root", default=None, help="artifact store (or ARTIFACT_ROOT; ./artifacts)")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KIND.PATH=VALUE")
    parser.add_argument("--screen", default=None, help="also write the closing screen to this file")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("clinical_modernbert").setLevel(logging.INFO)
    transformers.utils.logging.disable_progress_bar()  # a bar for 29 weights, between bars of steps that take minutes
    try:
        data = Path(options.data) if options.data else None
        screen = run_demo(open_root(options.root), data=data, overrides=options.overrides)
    except UserError as error:
        end(error)
    sys.stdout.write(screen)
    if options.screen:
        Path(options.screen).write_text(screen, encoding="utf-8")


def run_demo(store: Store, *, data: Path | None = None, overrides: Sequence[str] = ()) -> str:
    """Make every artifact of the demo in ``store`` and return the closing screen.

    ``overrides`` are ``<kind>.<path>=<value>``: those of ``corpus.`` go to the corpus recipe, and so on.
    """
    by_kind = _by_kind(overrides)
    name = "name=demo-real" if data else "name=demo"
    # All recipes and raw files first, so that their errors are raised before Ray starts and not after the training.
    corpus_recipe = _corpus_recipe(data, by_kind["corpus"])
    files = fingerprint_inputs(corpus_recipe)
    pretrain_recipe = _recipe(PretrainRecipe, "pretrain/demo", [name, *by_kind["pretrain"]])
    sweep_recipe = _recipe(SweepRecipe, "sweep/demo", [name, *by_kind["sweep"]])
    sweep_base(sweep_recipe, data_id=str(sweep_recipe.corpus))
    evaluate_recipe = _recipe(EvaluateRecipe, "evaluate/demo", [name, *by_kind["evaluate"]])
    pairs_recipe = _recipe(PairsRecipe, "pairs/codes", by_kind["pairs"])
    contrast_recipe = _recipe(ContrastRecipe, "contrast/demo", [f"{name}-vectors", *by_kind["contrast"]])
    map_recipe = _recipe(MapRecipe, "map/demo", [name, *by_kind["map"]])
    start_ray(num_cpus=max(2, os.cpu_count() or 2))
    corpus = _make(store, corpus_recipe, build_corpus, raw=files)
    on_corpus = {"corpus": corpus.manifest.id}
    model = _make(store, pretrain_recipe.model_copy(update=on_corpus), pretrain)
    swept = _run(sweep_plan(sweep_recipe.model_copy(update=on_corpus), store), sweep)
    of_model = {"model": model.manifest.id}
    evaluation = _make(store, evaluate_recipe.model_copy(update={**on_corpus, **of_model}), evaluate)
    pairs = _make(store, pairs_recipe, build_pairs, raw=pair_inputs(pairs_recipe))
    started = {"pairs": pairs.manifest.id, "init": model.manifest.id}
    vectors = _make(store, contrast_recipe.model_copy(update=started), contrast)
    code_map = _make(store, map_recipe.model_copy(update={"model": vectors.manifest.id}), map_codes)
    endpoint = _try_endpoint(store, vectors)
    next_steps = {
        "make vectors": "the same stage from a stronger encoder, MiniLM",
        f"make serve MODEL={vectors.manifest.id}": "the endpoint on http://127.0.0.1:8000 (OpenAI's /v1/embeddings)",
        "make explore": "the explorer on http://127.0.0.1:8501",
        f"python jobs/pretrain.py pretrain/demo --set corpus={corpus.manifest.id} --dry-run": "what a run would do",
    }
    if data is None:
        next_steps["make demo DATA=<folder>"] = "the same with real files"
    notes = [f"{command}\n      {meaning}" for command, meaning in next_steps.items()]
    made = Results(
        corpus=corpus,
        model=model,
        sweep=swept,
        evaluation=evaluation,
        vectors=vectors,
        vector_lines=_vector_lines(pairs, vectors),
        code_map=code_map,
        endpoint=endpoint,
    )
    return render_screen(made, notes=notes)


def _vector_lines(pairs: Artifact, vectors: Artifact) -> list[str]:
    """Return what the vectors find, before and after their training."""
    section = HeldOutSection.model_validate(pairs.manifest.recipe["held_out"])
    look_up = crosswalk(num_queries=_NUM_QUERIES, all_candidates=False, seed=0, held_out=section)
    embed = encoder_of(vectors)
    figures = all_figures(look_up, {BEFORE: initial_encoder(vectors), AFTER: embed})
    return [
        f"{_NUM_QUERIES} held-out ICD-9-CM codes, each among {len(look_up.candidates):,} ICD-10-CM codes",
        *figure_lines({"crosswalk": figures}, {}),
        *answer_lines(embed),
    ]


def _recipe(recipe_type: type[T], name: str, overrides: list[str]) -> T:
    return build_recipe(recipe_type, read_recipe(name), overrides=overrides, origin=name)


def _by_kind(overrides: Sequence[str]) -> dict[str, list[str]]:
    by_kind: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for override in overrides:
        kind, dot, path = override.partition(".")
        if kind not in by_kind or not dot:
            raise RecipeError(
                f"override {override!r} must begin with one of {', '.join(f'{kind}.' for kind in by_kind)}"
            )
        by_kind[kind].append(path)
    return by_kind


def _corpus_recipe(data: Path | None, overrides: list[str]) -> CorpusRecipe:
    if data is None:
        return _recipe(CorpusRecipe, "corpus/demo", overrides)
    values = read_recipe("corpus/real")
    real = real_sources(data)
    names = {source.name for source in real}
    kept = [source for source in values["sources"] if source["name"] not in names]
    # As a recipe file would hold them, so that overrides reach into them.
    stated = [source.model_dump(mode="json", exclude_unset=True) for source in real]
    return build_recipe(
        CorpusRecipe, {**values, "sources": [*stated, *kept]}, overrides=overrides, origin="corpus/real"
    )


def _make(store: Store, recipe: T, run: Callable[[Plan[T]], Artifact], *, raw: tuple[InputEntry, ...] = ()) -> Artifact:
    return _run(make_plan(recipe, store, raw_inputs=raw), run)


def _run(plan: Plan[T], run: Callable[[Plan[T]], Artifact]) -> Artifact:
    artifact = plan.existing()
    if artifact:
        _logger.info("%s %s already exists", plan.kind, plan.id)
        return artifact
    _logger.info("making %s %s", plan.kind, plan.id)
    return run(plan)


def _try_endpoint(store: Store, model: Artifact) -> EndpointCheck:
    """Serve the model, request vectors over HTTP, and compare them with vectors computed in this process."""
    from ray import serve

    from clinical_modernbert.serving.app import build_application

    recipe = _recipe(ServeRecipe, "serve/demo", [f"model={model.manifest.id}"])
    port = _free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build_application(store, recipe), name="encoder", route_prefix="/")
    try:
        body = json.dumps({"model": model.manifest.id, "input": TEXTS}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/embeddings", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
    finally:
        serve.shutdown()
    served = np.array([item["embedding"] for item in answer["data"]], dtype=np.float32)
    encoder = load_export(model.folder("model"))
    pooling = pooling_of(model, recipe.pooling)
    offline = encoder.embed(encoder.tokenize(TEXTS), pooling=pooling, normalize=recipe.normalize)
    return EndpointCheck(num_texts=len(TEXTS), largest_difference=float(np.abs(served - offline).max()))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
