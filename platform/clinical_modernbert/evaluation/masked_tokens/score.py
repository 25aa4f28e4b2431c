"""Table 4: top-k accuracy at hidden tokens of the held-out split, on both frozen masks, beside what counting scores.

The unigram baseline answers with the most frequent training tokens of the document's own source, the bigram ones (see
``bigram``) with what its neighbours make likely: a model that scores no more than these has learnt no more. Figures stand for
the whole split and for each source by itself, because a mean over sources can rise while one of them gets worse. Intervals are
over documents: the hidden tokens of one note stand or fall together.

Legend: N hidden tokens, D documents, M means.
"""

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact, Plan, upload
from clinical_modernbert.corpus.shards import PackedRows
from clinical_modernbert.encoder import default_device, load_model
from clinical_modernbert.errors import ModelError
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.masked_tokens.counting import count_neighbours, neighbour_ranks
from clinical_modernbert.masking import MASK_KINDS, MaskKind, token_ranges
from clinical_modernbert.recipe import CorpusRecipe, EvaluateRecipe
from clinical_modernbert.statistics import mean_intervals
from clinical_modernbert.tokenizer import load_tokenizer
from clinical_modernbert.training.batches import row_chunks
from clinical_modernbert.training.held_out import MaskedPositions, sample_rows, score_rows

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
    sources = _source_names(corpus)
    report: dict[str, Any] = {"rows": scores.num_rows, "top_k": list(recipe.top_k), "masks": {}}
    for kind, found in scores.masks.items():
        ranks = {
            "model": found.ranks_N,
            "unigram": unigram_ranks(found.labels_N, found.sources_N, unigram=unigram),
            **neighbour_ranks(found, neighbours, unigram=unigram),
        }
        report["masks"][kind] = mask_report(
            found, ranks, sources=sources, top_k=recipe.top_k, num_resamples=recipe.num_resamples
        )
        _logger.info("%s mask: top-1 %.4f over %d tokens", kind, found.accuracy(1), len(found.labels_N))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        path.write_text(json.dumps(report, indent=1), encoding="utf-8")
        files = [upload(plan.store, plan.prefix, "report.json", path)]
    return plan.publish(files, summary=report)


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
    """Do the same with a masked-language ModernBERT in a folder, which errors name as ``called``."""
    tokenizer = load_tokenizer(corpus.folder("tokenizer"))
    if tokenizer.get_vocab() != load_tokenizer(folder).get_vocab():
        raise ModelError(f"{called} has another tokenizer than the corpus: its rows mean nothing to this model")
    network = load_model(folder).to(default_device()).eval()
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
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return (encoder -> mask -> figures, encoder -> why it cannot be asked the same) on the rows and masks of Table 4."""
    found, refused = {}, {}
    sources = _source_names(corpus)
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
        found[encoder.name] = {
            kind: mask_report(
                scored,
                {"model": scored.ranks_N},
                sources=sources,
                top_k=recipe.top_k,
                num_resamples=recipe.num_resamples,
            )
            for kind, scored in scores.masks.items()
        }
    return found, refused


def mask_report(
    found: MaskedPositions,
    ranks: dict[str, NDArray[np.int64]],
    *,
    sources: list[str],
    top_k: tuple[int, ...],
    num_resamples: int,
) -> dict[str, Any]:
    """Return loss and accuracies of everyone in ``ranks`` (tokens held more likely than the right one), in all and by source."""
    figures: dict[str, Any] = {"loss": found.loss, **_accuracies(ranks, found.documents_N, top_k, num_resamples)}
    figures["sources"] = {}
    for number, name in enumerate(sources):
        here = found.sources_N == number
        if here.any():
            own = {who: own_N[here] for who, own_N in ranks.items()}
            figures["sources"][name] = _accuracies(own, found.documents_N[here], top_k, num_resamples)
    return figures


def unigram_ranks(
    labels_N: NDArray[np.int64], sources_N: NDArray[np.int64], *, unigram: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return how many ids are more frequent than the label in its source's training text; ties are ordered by id."""
    order = np.argsort(-unigram, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(unigram.shape[1])[None, :], axis=1)
    return ranks[sources_N, labels_N]


def _accuracies(
    ranks: dict[str, NDArray[np.int64]], documents_N: NDArray[np.uint64], top_k: tuple[int, ...], num_resamples: int
) -> dict[str, Any]:
    owner_N = np.unique(documents_N, return_inverse=True)[1]
    tokens_D = np.bincount(owner_N).astype(np.float64)
    sums = [np.bincount(owner_N, weights=own_N < k) for own_N in ranks.values() for k in top_k]
    intervals = mean_intervals(np.stack(sums, axis=1), tokens_D, num_resamples=num_resamples).T.tolist()
    keys = [str(k) for k in top_k]
    figures: dict[str, Any] = {"tokens": len(owner_N), "documents": len(tokens_D), "intervals": {}}
    for number, (who, own_N) in enumerate(ranks.items()):
        figures[who] = {str(k): float((own_N < k).mean()) for k in top_k}
        own = intervals[number * len(keys) : (number + 1) * len(keys)]
        figures["intervals"][who] = dict(zip(keys, own, strict=True))
    return figures


def _source_names(corpus: Artifact) -> list[str]:
    # The recipe's order, which numbers them; a manifest is written with sorted keys.
    return [source.name for source in CorpusRecipe.model_validate(corpus.manifest.recipe).sources]
