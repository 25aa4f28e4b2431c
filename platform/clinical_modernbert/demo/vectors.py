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
from clinical_modernbert.encoder import Encoder, load_export, load_with_new_head, pooling_of
from clinical_modernbert.errors import RecipeError, UserError
from clinical_modernbert.evaluation.codes.confusions import confusions
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
from clinical_modernbert.job import end, open_root
from clinical_modernbert.recipe import ContrastRecipe, PairsRecipe, build_recipe, read_recipe
from clinical_modernbert.recipe.corpus import HeldOutSection
from clinical_modernbert.recipe.overrides import apply_override, dotted
from clinical_modernbert.recipe.vocabulary import Pooling
from clinical_modernbert.sources import code_table
from clinical_modernbert.tokenizer import load_tokenizer
from clinical_modernbert.training.contrastive.plan import contrast_plan
from clinical_modernbert.training.launch import contrast

QUESTIONS = ("heart attack", "kidney failure", "high blood pressure", "broken hip", "stroke", "pink eye")

BEFORE, AFTER = "encoder before", "encoder after"

_NUM_QUERIES = 1500
_RECIPE = "contrast/minilm"


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
        help=f"of the recipe {_RECIPE}; not name, pairs or training.split",
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("clinical_modernbert").setLevel(logging.INFO)
    try:
        sys.stdout.write(run_vectors(open_root(options.root), data=options.data, overrides=options.overrides))
    except UserError as error:
        end(error)


def run_vectors(store: Store, *, data: str | None, overrides: Sequence[str] = ()) -> str:
    """Make pair set, twin and model in ``store``, and return the screen."""
    # The recipe weighs the sources of pairs/open; without a folder only those of the code tables are there.
    weights = [] if data else ["training.weights={parents: 0.7, chapters: 0.7}"]
    _check(overrides)
    name = "pairs/open" if data else "pairs/codes"
    pairs_recipe = build_recipe(PairsRecipe, read_recipe(name), overrides=[f"data={data or '.'}"], origin=name)
    plan = make_plan(pairs_recipe, store, raw_inputs=pair_inputs(pairs_recipe))
    pairs = plan.existing() or build_pairs(plan)
    twin, model = (
        _trained(store, [*weights, *overrides, f"pairs={pairs.manifest.id}", f"training.split={split}", f"name={name}"])
        for split, name in (("train", "minilm-twin"), ("all", "minilm"))
    )
    section = HeldOutSection.model_validate(pairs.manifest.recipe["held_out"])
    codes = crosswalk(num_queries=_NUM_QUERIES, all_candidates=True, seed=0, held_out=section)
    look_ups = {"crosswalk": codes, "lay terms": lay_terms(pairs)}
    encoders = {BEFORE: initial_encoder(twin), AFTER: encoder_of(twin)}
    figures = {task: all_figures(of, encoders) for task, of in look_ups.items() if of}
    # Purity needs vectors: words are counted in 256 dimensions for it.
    purity = {
        name: held_out_purity(embed, section) for name, embed in {"TF-IDF of words": text_vectors, **encoders}.items()
    }
    found = {"crosswalk": "none", "lay terms": "none"} | {
        task: f"{of[AFTER].recall_at_1.mean:.3f}" for task, of in figures.items()
    }
    blocks = [
        f"Pairs: {pairs.summary['pairs']['train']:,} to train on, {pairs.summary['pairs']['held_out']:,} held out, {pairs.uri}",
        *figure_lines(figures, purity),
        "",
        *_confusion_lines(codes, encoders),
        "",
        f"The model to use, trained on every pair: {model.uri}",
        *answer_lines(encoder_of(model)),
        "",
        f"vectors crosswalk1={found['crosswalk']} lay1={found['lay terms']} purity={purity[AFTER]:.3f}",
    ]
    return "\n".join(blocks) + "\n"


def figure_lines(figures: dict[str, dict[str, LookUpFigures]], purity: dict[str, float]) -> list[str]:
    """Return a table of figures on held-out concepts: a row a method, two columns a look-up, and the purity if there is one."""
    heads = "".join(f"{task + ' @1':>16}{'@10':>8}" for task in figures)
    lines = [f"  {'held-out concepts':<24}{heads}{'purity@10' if purity else '':>12}".rstrip()]
    for name in next(iter(figures.values())):
        cells = "".join(
            f"{of[name].recall_at_1.mean:>16.3f}{of[name].recall_at_10.mean:>8.3f}" for of in figures.values()
        )
        lines.append(f"  {name:<24}{cells}" + (f"{purity[name]:>12.3f}" if name in purity else ""))
    return lines


def _confusion_lines(of: LookUp, encoders: dict[str, Embed]) -> list[str]:
    """Return a table of what the first answers are: a row an encoder, the right ones and the kinds of wrong ones."""
    shares = {name: confusions(of, embed) for name, embed in encoders.items()}
    kinds = next(iter(shares.values()))
    lines = [f"  {'first answers, crosswalk':<24}" + "".join(f"{kind:>16}" for kind in kinds)]
    return lines + [
        f"  {name:<24}" + "".join(f"{share:>16.3f}" for share in own.values()) for name, own in shares.items()
    ]


def all_figures(of: LookUp, encoders: dict[str, Embed]) -> dict[str, LookUpFigures]:
    """Return the figures of methods that count words, and of the encoders."""
    return counting_figures(of, seed=0) | {name: encoder_figures(of, embed, seed=0) for name, embed in encoders.items()}


def answer_lines(embed: Embed) -> list[str]:
    """Return the nearest ICD-9-CM code of each question of a patient."""
    codes = code_table("icd9cm")
    scores_QD = np.concatenate(list(cosines(embed(QUESTIONS), embed([entry.description for entry in codes]))))
    return [
        f"  {question:<22}{codes[i].code:<8}{codes[i].description}"
        for question, i in zip(QUESTIONS, scores_QD.argmax(1).tolist(), strict=True)
    ]


def _check(overrides: Sequence[str]) -> None:
    """Raise ``RecipeError`` for what the two runs decide themselves, and for what the recipe refuses."""
    for override in overrides:
        given = dotted(apply_override({}, override))
        own = sorted({"name", "pairs", "training.split"} & set(given))
        if own:
            raise RecipeError(
                f"--set {override}: {own[0]} cannot be set here: of the two runs one leaves out the held-out concepts, and one "
                "has every pair of the set that is built. Train other models with jobs/contrast.py"
            )
    build_recipe(ContrastRecipe, read_recipe(_RECIPE), overrides=overrides, origin=_RECIPE)


def _trained(store: Store, overrides: list[str]) -> Artifact:
    recipe = build_recipe(ContrastRecipe, read_recipe(_RECIPE), overrides=overrides, origin=_RECIPE)
    plan = contrast_plan(recipe, store)
    return plan.existing() or contrast(plan)


def encoder_of(model: Artifact) -> Embed:
    """Return the vectors of a model with the pooling that it was trained with."""
    return _embedding(load_export(model.folder("model")), pooling=pooling_of(model, None))


def initial_encoder(model: Artifact) -> Embed:
    """Return the encoder that the training of ``model`` started from, with the pooling of that training."""
    initial = next(entry for entry in model.manifest.inputs if entry.name == "init")
    folder = open_model(initial, model.store)
    encoder = load_with_new_head(folder, "embedding", label=initial.id).eval()
    before = Encoder(model=encoder, tokenizer=load_tokenizer(folder), head="embedding")
    return _embedding(before, pooling=pooling_of(model, None))


def _embedding(encoder: Encoder, *, pooling: Pooling) -> Embed:
    """Return the vectors of an encoder; each text is encoded once, because all figures use the same code tables."""
    known: dict[str, NDArray[np.float32]] = {}

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        limit = encoder.max_tokens
        ids = [text[: limit - 1] + text[-1:] if len(text) > limit else text for text in encoder.tokenize(new)]
        known.update(zip(new, encoder.embed(ids, pooling=pooling, normalize=True), strict=True))
        return np.stack([known[text] for text in texts])

    return embed
