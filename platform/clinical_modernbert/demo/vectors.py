"""Train vectors from the packaged MiniLM and show what they find: ``make vectors``.

Two models of one recipe: the twin leaves out the held-out concepts and gives the figures; the model to use trains on every pair
and answers the questions. With a folder of open vocabularies the pairs have the words of patients, without one those of the code
tables.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact, Store, make_plan, open_model
from clinical_modernbert.corpus.pairs.build import build_pairs, pair_inputs
from clinical_modernbert.encoder import Encoder, load_export, load_with_new_head
from clinical_modernbert.errors import UserError
from clinical_modernbert.evaluation.codes.lookup import (
    Embed,
    LookUp,
    counting_figures,
    crosswalk,
    encoder_figures,
    held_out_purity,
    lay_terms,
)
from clinical_modernbert.evaluation.codes.vectors import text_vectors
from clinical_modernbert.evaluation.report.schema import LookUpFigures
from clinical_modernbert.evaluation.tasks.ranking import cosines
from clinical_modernbert.job import open_root
from clinical_modernbert.recipe import ContrastRecipe, PairsRecipe, build_recipe, read_recipe
from clinical_modernbert.recipe.corpus import HeldOutSection
from clinical_modernbert.sources import code_table
from clinical_modernbert.tokenizer import load_tokenizer
from clinical_modernbert.training.launch import contrast

QUESTIONS = ("heart attack", "kidney failure", "high blood pressure", "broken hip", "stroke", "pink eye")

_NUM_QUERIES = 1500


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line; the last line is ``vectors crosswalk1=<> lay1=<> purity=<>``."""
    parser = argparse.ArgumentParser(description="Train vectors from the packaged MiniLM and show what they find.")
    parser.add_argument(
        "--data", default=None, help="folder with vocab/ (docs/vectors.md); without it code tables alone"
    )
    parser.add_argument("--root", default=None, help="artifact store (or ARTIFACT_ROOT; ./artifacts)")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="of the recipe contrast/minilm",
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("clinical_modernbert").setLevel(logging.INFO)
    try:
        sys.stdout.write(run_vectors(open_root(options.root), data=options.data, overrides=options.overrides))
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def run_vectors(store: Store, *, data: str | None, overrides: Sequence[str] = ()) -> str:
    """Make pair set, twin and model in ``store``, and return the screen."""
    name = "pairs/open" if data else "pairs/codes"
    pairs_recipe = build_recipe(PairsRecipe, read_recipe(name), overrides=[f"data={data or '.'}"], origin=name)
    plan = make_plan(pairs_recipe, store, raw_inputs=pair_inputs(pairs_recipe))
    pairs = plan.existing() or build_pairs(plan)
    twin, model = (
        _trained(store, [f"pairs={pairs.manifest.id}", f"training.split={split}", f"name={name}", *overrides])
        for split, name in (("train", "minilm-twin"), ("all", "minilm"))
    )
    untouched = _initial_encoder(twin)
    lines, last = figure_lines(pairs, before=untouched, after=_of_artifact(twin))
    blocks = [
        f"Pairs: {pairs.summary['pairs']['train']:,} to train on, {pairs.summary['pairs']['held_out']:,} held out, {pairs.uri}",
        *lines,
        "",
        f"The model to use, trained on every pair: {model.uri}",
        *answer_lines(_of_artifact(model)),
        "",
        last,
    ]
    return "\n".join(blocks) + "\n"


def figure_lines(pairs: Artifact, *, before: Embed, after: Embed) -> tuple[list[str], str]:
    """Return the table of figures on held-out concepts, and the line that sums it up."""
    section = HeldOutSection.model_validate(pairs.manifest.recipe["held_out"])
    look_ups = {
        "crosswalk": crosswalk(num_queries=_NUM_QUERIES, all_candidates=True, seed=0, held_out=section),
        "lay": lay_terms(pairs),
    }
    encoders = {"encoder before": before, "encoder after": after}
    figures = {task: _all_figures(of, encoders) if of else {} for task, of in look_ups.items()}
    # Purity needs vectors: words are counted in 256 dimensions for it.
    purity = {
        name: held_out_purity(embed, section) for name, embed in {"TF-IDF of words": text_vectors, **encoders}.items()
    }
    lines = [
        f"  {'held-out concepts':<24}{'crosswalk @1':>14}{'@10':>8}{'lay terms @1':>14}{'@10':>8}{'purity@10':>12}",
        *(
            f"  {name:<24}{_cells(figures['crosswalk'].get(name))}{_cells(figures['lay'].get(name))}"
            + (f"{purity[name]:>12.3f}" if name in purity else "")
            for name in figures["crosswalk"]
        ),
    ]
    crosswalk1, lay1 = (
        f"{found['encoder after'].recall_at_1.mean:.3f}" if found else "none" for found in figures.values()
    )
    return lines, f"vectors crosswalk1={crosswalk1} lay1={lay1} purity={purity['encoder after']:.3f}"


def _all_figures(of: LookUp, encoders: dict[str, Embed]) -> dict[str, LookUpFigures]:
    return counting_figures(of, seed=0) | {name: encoder_figures(of, embed, seed=0) for name, embed in encoders.items()}


def _cells(figures: LookUpFigures | None) -> str:
    if figures is None:
        return f"{'':>22}"
    return f"{figures.recall_at_1.mean:>14.3f}{figures.recall_at_10.mean:>8.3f}"


def answer_lines(embed: Embed) -> list[str]:
    """Return the nearest ICD-9-CM code of each question of a patient."""
    codes = code_table("icd9cm")
    scores_QD = np.concatenate(list(cosines(embed(QUESTIONS), embed([entry.description for entry in codes]))))
    return [
        f"  {question:<22}{codes[i].code:<8}{codes[i].description}"
        for question, i in zip(QUESTIONS, scores_QD.argmax(1).tolist(), strict=True)
    ]


def _trained(store: Store, overrides: list[str]) -> Artifact:
    name = "contrast/minilm"
    recipe = build_recipe(ContrastRecipe, read_recipe(name), overrides=overrides, origin=name)
    plan = make_plan(recipe, store)
    return plan.existing() or contrast(plan)


def _of_artifact(model: Artifact) -> Embed:
    encoder = load_export(model.folder("model"))
    return _embedding(encoder)


def _initial_encoder(model: Artifact) -> Embed:
    """Return the encoder that the training of ``model`` started from."""
    initial = next(entry for entry in model.manifest.inputs if entry.name == "init")
    folder = open_model(initial, model.store)
    encoder = load_with_new_head(folder, "embedding", label=initial.id).eval()
    return _embedding(Encoder(model=encoder, tokenizer=load_tokenizer(folder), head="embedding"))


def _embedding(encoder: Encoder) -> Embed:
    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        limit = encoder.max_tokens
        ids = [text[: limit - 1] + text[-1:] if len(text) > limit else text for text in encoder.tokenize(texts)]
        return encoder.embed(ids, pooling="mean", normalize=True)

    return embed
