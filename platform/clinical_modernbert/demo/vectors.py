"""Train vectors from the packaged MiniLM and show what they find: ``make vectors``.

Two models of one recipe: the twin leaves out the held-out concepts and gives the figures; the model to use trains on every pair
and answers the questions. With a folder of open vocabularies the pairs have the words of patients, without one those of the code
tables.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact, Store, make_plan, open_model
from clinical_modernbert.corpus.pairs.build import build_pairs, pair_inputs
from clinical_modernbert.encoder import Encoder, load_export, load_with_new_head
from clinical_modernbert.errors import UserError
from clinical_modernbert.evaluation.codes.lookup import (
    LookUp,
    Recall,
    Similarity,
    by_bm25,
    by_characters,
    by_vectors,
    crosswalk_look_up,
    held_out_purity,
    lay_look_up,
    recall,
)
from clinical_modernbert.evaluation.codes.vectors import text_vectors
from clinical_modernbert.job import open_root
from clinical_modernbert.recipe import ContrastRecipe, PairsRecipe, build_recipe, read_recipe
from clinical_modernbert.recipe.corpus import HeldOutSection
from clinical_modernbert.sources import code_table
from clinical_modernbert.tokenizer import load_tokenizer
from clinical_modernbert.training.launch import contrast

QUESTIONS = ("heart attack", "kidney failure", "high blood pressure", "broken hip", "stroke", "pink eye")

_logger = logging.getLogger(__name__)
Embed = Callable[[Sequence[str]], NDArray[np.float32]]


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
    torch.set_num_threads(2)
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
    look_ups: dict[str, LookUp | None] = {"crosswalk": crosswalk_look_up(section), "lay": lay_look_up(pairs)}
    methods: dict[str, tuple[Similarity, Embed | None]] = {
        "BM25 of words": (by_bm25, None),
        "TF-IDF of characters": (by_characters, None),
        "TF-IDF of words, 256 dimensions": (by_vectors(text_vectors), text_vectors),
        "encoder before": (by_vectors(before), before),
        "encoder after": (by_vectors(after), after),
    }
    lines = [
        f"  {'held-out concepts':<34}{'crosswalk @1':>14}{'@10':>8}{'lay terms @1':>14}{'@10':>8}{'purity@10':>12}",
    ]
    found: dict[str, Recall | None] = {}
    purity = 0.0
    for name, (similarity, embed) in methods.items():
        found = {
            task: None if look_up is None or (embed is text_vectors) else recall(look_up, similarity)
            for task, look_up in look_ups.items()
        }
        purity = held_out_purity(embed, section) if embed else 0.0
        cells = [_cells(found["crosswalk"]), _cells(found["lay"]), f"{purity:>12.3f}" if embed else f"{'':>12}"]
        lines.append(f"  {name:<34}{''.join(cells)}")
        _logger.info("%s: %s, purity %.3f", name, found, purity)
    crosswalk, lay = (f"{r.at_1:.3f}" if (r := found[task]) else "none" for task in ("crosswalk", "lay"))
    return lines, f"vectors crosswalk1={crosswalk} lay1={lay} purity={purity:.3f}"


def _cells(figure: Recall | None) -> str:
    return f"{figure.at_1:>14.3f}{figure.at_10:>8.3f}" if figure else f"{'':>22}"


def answer_lines(embed: Embed) -> list[str]:
    """Return the nearest ICD-9-CM code of each question of a patient."""
    codes = code_table("icd9cm")
    of_block = by_vectors(embed)(QUESTIONS, [entry.description for entry in codes])
    nearest = of_block(slice(None)).argmax(1)
    return [
        f"  {question:<22}{codes[i].code:<8}{codes[i].description}"
        for question, i in zip(QUESTIONS, nearest.tolist(), strict=True)
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
