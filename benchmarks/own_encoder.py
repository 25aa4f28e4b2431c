"""Vectors of an encoder of our own, beside the same stage from random weights and beside methods that count words.

    python -m benchmarks.own_encoder <data> [--steps 1200] [--pair-steps 800]    # <data> as docs/vectors.md describes it

Builds ``corpus/small`` and ``pairs/open`` in ``build/own-encoder``, pretrains a small encoder for ``--steps``, and trains vectors
for ``--pair-steps`` from it and from the weights that it began with, in this process with one thread. The figures are those of
``make vectors``, on held-out concepts. After each encoder it prints the table so far. Run again, it continues.
"""

import argparse
import logging
import os
import sys
import time
from pathlib import Path

import ray
import torch
from clinical_modernbert.artifacts import Artifact, Store, make_plan, open_store
from clinical_modernbert.corpus.build import build_corpus
from clinical_modernbert.corpus.fingerprint_inputs import fingerprint_inputs
from clinical_modernbert.corpus.pairs.build import build_pairs, pair_inputs
from clinical_modernbert.demo.vectors import all_figures, encoder_of, figure_lines, initial_encoder
from clinical_modernbert.evaluation.codes.lookup import Embed, crosswalk, held_out_purity, lay_terms
from clinical_modernbert.evaluation.codes.vectors import text_vectors
from clinical_modernbert.recipe import ContrastRecipe, CorpusRecipe, PairsRecipe, PretrainRecipe, load_recipe
from clinical_modernbert.recipe.corpus import HeldOutSection
from clinical_modernbert.training.contrastive.plan import contrast_plan
from clinical_modernbert.training.corpora import pretrain_plan
from clinical_modernbert.training.launch import contrast_in_process, pretrain_in_process

_MODEL = "model={hidden_size: 256, intermediate_size: 384, num_layers: 4, num_heads: 4, max_position_embeddings: 1024}"
# One step at a rate that changes no weight visibly: the weights that pretraining begins with, as a model of the store.
_UNTRAINED = ("training.num_steps=1", "optimizer.learning_rate=1.0e-12")


def main(data: str, steps: int, pair_steps: int) -> None:
    """Build, train and print."""
    recipes, scratch, began = Path("jobs/recipes").resolve(), Path("build/own-encoder").resolve(), time.monotonic()
    scratch.mkdir(parents=True, exist_ok=True)
    if not (scratch / "data").exists():
        (scratch / "data").symlink_to(Path(data).resolve())
    os.chdir(scratch)  # the recipes read ./data
    store = open_store(str(scratch / "store"))
    pairs = _inputs(store, recipes)
    section = HeldOutSection.model_validate(pairs.manifest.recipe["held_out"])
    look_ups = {
        "crosswalk": crosswalk(num_queries=1500, all_candidates=True, seed=0, held_out=section),
        "lay terms": lay_terms(pairs),
    }
    torch.set_num_threads(1)
    encoders: dict[str, Embed] = {}
    for title, name, length in (
        ("random weights", "own-untrained", _UNTRAINED),
        ("pretrained", "own", (f"training.num_steps={steps}",)),
    ):
        overrides = [_MODEL, "scaling.num_workers=1", "scaling.micro_batch_rows=32", *length, f"name={name}"]
        plan = pretrain_plan(
            load_recipe(PretrainRecipe, "pretrain/small", overrides=overrides, recipes_path=recipes), store
        )
        model = plan.existing() or pretrain_in_process(plan)
        vectors = _vectors(store, recipes, model, pair_steps)
        encoders |= {title: initial_encoder(vectors), f"{title}, then pairs": encoder_of(vectors)}
        figures = {task: all_figures(of, encoders) for task, of in look_ups.items() if of}
        known = {"TF-IDF of words": text_vectors, **encoders}
        purity = {of: held_out_purity(embed, section) for of, embed in known.items()}
        minutes = (time.monotonic() - began) / 60
        sys.stdout.write("\n".join([*figure_lines(figures, purity), f"{minutes:.1f} minutes of this process\n"]))
        sys.stdout.flush()


def _inputs(store: Store, recipes: Path) -> Artifact:
    """Build the corpus of pretraining, and return the pair set."""
    corpus = load_recipe(CorpusRecipe, "corpus/small", overrides=[], recipes_path=recipes)
    corpus_plan = make_plan(corpus, store, raw_inputs=fingerprint_inputs(corpus))
    if not corpus_plan.existing():
        build_corpus(corpus_plan)
    ray.shutdown()  # its processes would take time from the training
    recipe = load_recipe(PairsRecipe, "pairs/open", overrides=["data=data"], recipes_path=recipes)
    plan = make_plan(recipe, store, raw_inputs=pair_inputs(recipe))
    return plan.existing() or build_pairs(plan)


def _vectors(store: Store, recipes: Path, model: Artifact, steps: int) -> Artifact:
    """Train vectors from ``model``, at the rate of the demo's small encoder and with the weights of ``contrast/minilm``."""
    overrides = [
        *(f"name={model.manifest.id}-vectors", f"init={model.manifest.id}", f"training.num_steps={steps}"),
        *("optimizer.learning_rate=1.0e-3", "scaling.num_workers=1", "scaling.micro_batch_pairs=256"),
    ]
    plan = contrast_plan(
        load_recipe(ContrastRecipe, "contrast/minilm", overrides=overrides, recipes_path=recipes), store
    )
    return plan.existing() or contrast_in_process(plan)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--steps", type=int, default=1200, help="of pretraining")
    parser.add_argument("--pair-steps", type=int, default=800, help="of each contrastive run")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("clinical_modernbert").setLevel(logging.INFO)
    main(options.data, options.steps, options.pair_steps)
