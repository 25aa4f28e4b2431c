"""Table 4: top-k accuracy at hidden tokens of the held-out split, under both frozen masks, next to counting baselines.

The unigram baseline predicts the most frequent training tokens of the document's source; the bigram baselines (``counting``) use
the neighbours. A model that scores no more than these has learnt no more. Figures are given for the whole split and for each
source, because a mean over sources can rise while one of them gets worse. Intervals are over documents, because the hidden tokens
of one note depend on each other.

Legend: N hidden tokens, D documents, M means.
"""

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.corpus.shards import PackedRows
from clinical_modernbert.encoder import default_device, load_model, pack
from clinical_modernbert.errors import ModelError
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.masked_tokens.counting import count_neighbours, neighbour_ranks
from clinical_modernbert.evaluation.report.schema import Accuracies, MaskFigures, Report, Table4, report_json
from clinical_modernbert.masking import MASK_KINDS, MaskKind, token_ranges
from clinical_modernbert.recipe import EvaluateRecipe
from clinical_modernbert.statistics import mean_intervals
from clinical_modernbert.tokenizer import load_tokenizer
from clinical_modernbert.training.batches import row_chunks
from clinical_modernbert.training.held_out import MaskedPositions, sample_rows, score_rows, source_names

_logger = logging.getLogger(__name__)


def evaluate(plan: Plan[EvaluateRecipe]) -> Artifact:
    """Score the plan's model on its corpus and publish ``report.json``."""
    recipe = plan.recipe
    model, corpus = plan.artifacts["model"], plan.artifacts["corpus"]
    torch.set_num_threads(recipe.scaling.num_cpus)
    scores = score_held_out(
        model,
        corpus,
        sequence_length=recipe.sequence_length,
        max_rows=recipe.max_rows,
        batch_rows=recipe.scaling.batch_rows,
    )
    unigram = np.load(corpus.file("unigram.npy"), allow_pickle=False)
    training = PackedRows(corpus, row_length=recipe.sequence_length, split="train")
    neighbours = count_neighbours(training, vocabulary_size=unigram.shape[1], max_rows=recipe.bigram_rows)
    sources = source_names(corpus)
    masks: dict[str, MaskFigures] = {}
    for kind, scored in scores.masks.items():
        ranks = {
            "model": scored.ranks_N,
            "unigram": unigram_ranks(scored.labels_N, scored.sources_N, unigram=unigram),
            **neighbour_ranks(scored, neighbours, unigram=unigram),
        }
        masks[kind] = mask_figures(scored, ranks, sources=sources, recipe=recipe)
        _logger.info("%s mask: top-1 %.4f over %d tokens", kind, scored.accuracy(1), len(scored.labels_N))
    report = report_json(Report(table_4=Table4(rows=scores.num_rows, top_k=list(recipe.top_k), masks=masks)))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        return plan.publish_folder(Path(folder), summary=report)


@dataclass(frozen=True, slots=True)
class HeldOutScores:
    """A model on the held-out rows of a corpus, under both frozen masks."""

    num_rows: int
    masks: dict[MaskKind, MaskedPositions]


def score_held_out(
    model: Artifact, corpus: Artifact, *, sequence_length: int, max_rows: int, batch_rows: int
) -> HeldOutScores:
    """Score ``model`` on up to ``max_rows`` held-out rows of ``corpus``, which must have the model's tokenizer."""
    folder = model.folder("model")
    return score_folder(
        folder, corpus, called=model.uri, sequence_length=sequence_length, max_rows=max_rows, batch_rows=batch_rows
    )


def score_folder(
    folder: Path, corpus: Artifact, *, called: str, sequence_length: int, max_rows: int, batch_rows: int
) -> HeldOutScores:
    """Score a masked-language ModernBERT in a folder, as ``score_held_out`` does; errors name it ``called``."""
    tokenizer = load_tokenizer(corpus.folder("tokenizer"))
    if tokenizer.get_vocab() != load_tokenizer(folder).get_vocab():
        raise ModelError(f"{called} has another tokenizer than the corpus: this model cannot read its rows")
    network = load_model(folder).to(default_device()).eval()
    pack(network)
    rows = PackedRows(corpus, row_length=sequence_length, split="held_out")
    if not len(rows):
        raise ModelError(f"{corpus.uri} has no held-out rows of {sequence_length} tokens")
    numbers_R = sample_rows(len(rows), max_rows=max_rows)
    chunks = [numbers_R[chunk] for chunk in row_chunks(len(numbers_R), size=batch_rows)]
    tokens = token_ranges(tokenizer)
    return HeldOutScores(
        len(numbers_R), {kind: score_rows(network, rows, chunks, kind=kind, tokens=tokens) for kind in MASK_KINDS}
    )


def score_encoders(
    encoders: Sequence[LocalEncoder], corpus: Artifact, recipe: EvaluateRecipe
) -> tuple[dict[str, dict[str, MaskFigures]], dict[str, str]]:
    """Score encoders on the rows and masks of Table 4.

    Returns (encoder -> mask -> figures, encoder -> why it cannot be scored on these tokens).
    """
    figures: dict[str, dict[str, MaskFigures]] = {}
    refused: dict[str, str] = {}
    sources = source_names(corpus)
    for encoder in encoders:
        try:
            scores = score_folder(
                encoder.folder,
                corpus,
                called=encoder.origin,
                sequence_length=recipe.sequence_length,
                max_rows=recipe.max_rows,
                batch_rows=recipe.scaling.batch_rows,
            )
        except ModelError as error:
            refused[encoder.name] = str(error)
            continue
        figures[encoder.name] = {
            kind: mask_figures(scored, {"model": scored.ranks_N}, sources=sources, recipe=recipe)
            for kind, scored in scores.masks.items()
        }
    return figures, refused


def mask_figures(
    scored: MaskedPositions, ranks: dict[str, NDArray[np.int64]], *, sources: list[str], recipe: EvaluateRecipe
) -> MaskFigures:
    """Return loss and top-k accuracy per predictor, overall and by source.

    ``ranks`` has for each predictor the number of tokens ranked above the correct one.
    """
    top_k, num_resamples = recipe.top_k, recipe.num_resamples
    by_source = {}
    for number, name in enumerate(sources):
        chosen_N = scored.sources_N == number
        if chosen_N.any():
            of_source = {predictor: ranks_N[chosen_N] for predictor, ranks_N in ranks.items()}
            by_source[name] = accuracies(
                of_source, scored.documents_N[chosen_N], top_k=top_k, num_resamples=num_resamples
            )
    overall = accuracies(ranks, scored.documents_N, top_k=top_k, num_resamples=num_resamples)
    return MaskFigures(loss=scored.loss, sources=by_source, **dict(overall))


def unigram_ranks(
    labels_N: NDArray[np.int64], sources_N: NDArray[np.int64], *, unigram: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return how many ids are more frequent than the label in its source's training text; ties are ordered by id."""
    order = np.argsort(-unigram, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(unigram.shape[1])[None, :], axis=1)
    return ranks[sources_N, labels_N]


def accuracies(
    ranks: dict[str, NDArray[np.int64]],
    documents_N: NDArray[np.uint64],
    *,
    top_k: Sequence[int],
    num_resamples: int,
) -> Accuracies:
    """Return top-k accuracy of each predictor with its 95 % bootstrap interval over documents."""
    document_N = np.unique(documents_N, return_inverse=True)[1]
    tokens_D = np.bincount(document_N).astype(np.float64)
    # One bootstrap for all predictors and k: they share the resamples.
    hits = [np.bincount(document_N, weights=ranks_N < k) for ranks_N in ranks.values() for k in top_k]
    hits_DM = np.stack(hits, axis=1).astype(np.float64)
    interval_M = iter(mean_intervals(hits_DM, tokens_D, num_resamples=num_resamples).T.tolist())
    return Accuracies(
        tokens=len(document_N),
        documents=len(tokens_D),
        intervals={name: {str(k): tuple(next(interval_M)) for k in top_k} for name in ranks},
        shares={name: {str(k): float((ranks_N < k).mean()) for k in top_k} for name, ranks_N in ranks.items()},
    )
