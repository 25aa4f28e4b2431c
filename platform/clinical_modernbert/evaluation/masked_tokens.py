"""Table 4: top-k accuracy at hidden tokens of the held-out split, on both frozen masks, beside what counting scores.

The unigram baseline answers with the most frequent training tokens of the document's own source, the bigram ones (see
``bigram``) with what its neighbours make likely: a model that scores no more than these has learnt no more. Figures stand for
the whole split and for each source by itself, because a mean over sources can rise while one of them gets worse.
"""

import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact, Plan, upload
from clinical_modernbert.corpus.shards import PackedRows
from clinical_modernbert.encoder import load_model
from clinical_modernbert.errors import ModelError
from clinical_modernbert.evaluation.bigram import Neighbours, count_neighbours, neighbour_ranks
from clinical_modernbert.recipe import CorpusRecipe, EvaluateRecipe
from clinical_modernbert.tokenizer import load_tokenizer
from clinical_modernbert.training.batches import row_chunks
from clinical_modernbert.training.scoring import MaskedPositions, MaskKind, default_device, score_rows
from clinical_modernbert.training.setup import token_ranges

_logger = logging.getLogger(__name__)


def evaluate(plan: Plan) -> Artifact:
    """Score the plan's model on its corpus and publish ``report.json``."""
    recipe = plan.recipe
    assert isinstance(recipe, EvaluateRecipe)
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
    sources = [source.name for source in CorpusRecipe.model_validate(corpus.manifest.recipe).sources]
    report: dict[str, Any] = {"rows": scores.num_rows, "top_k": list(recipe.top_k), "masks": {}}
    for kind, found in scores.masks.items():
        report["masks"][kind] = mask_report(
            found, unigram=unigram, neighbours=neighbours, sources=sources, top_k=recipe.top_k
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
    tokenizer = load_tokenizer(corpus.folder("tokenizer"))
    folder = model.folder("model")
    _refuse_other_tokenizer(tokenizer, load_tokenizer(folder), model)
    network = load_model(folder).to(default_device()).eval()
    rows = PackedRows(corpus, row_length=sequence_length, split="held_out")
    num_rows = min(len(rows), max_rows)
    if not num_rows:
        raise ModelError(f"{corpus.uri} has no held-out rows of {sequence_length} tokens")
    # Rows are packed longest segment first: every n-th one is a fair sample where not all are scored.
    numbers_R = np.linspace(0, len(rows) - 1, num_rows).astype(np.int64)
    chunks = [numbers_R[chunk] for chunk in row_chunks(num_rows, size=batch_rows)]
    tokens = token_ranges(tokenizer)
    kinds: tuple[MaskKind, ...] = ("uniform", "entity")
    return HeldOutScores(
        num_rows, {kind: score_rows(network, rows, chunks, kind=kind, tokens=tokens) for kind in kinds}
    )


def mask_report(
    found: MaskedPositions,
    *,
    unigram: NDArray[np.int64],
    neighbours: Neighbours,
    sources: list[str],
    top_k: tuple[int, ...],
) -> dict[str, Any]:
    """Return loss and accuracies of model and baselines, over all sources and by source; ``unigram`` is [source, id] counts."""
    ranks = {
        "model": found.ranks_N,
        "unigram": unigram_ranks(found.labels_N, found.sources_N, unigram=unigram),
        **neighbour_ranks(found, neighbours, unigram=unigram),
    }
    figures: dict[str, Any] = {"loss": found.loss, **_accuracies(ranks, top_k), "sources": {}}
    for number, name in enumerate(sources):
        here = found.sources_N == number
        if here.any():
            figures["sources"][name] = _accuracies({who: own_N[here] for who, own_N in ranks.items()}, top_k)
    return figures


def unigram_ranks(
    labels_N: NDArray[np.int64], sources_N: NDArray[np.int64], *, unigram: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return how many ids are more frequent than the label in its source's training text; ties are ordered by id."""
    order = np.argsort(-unigram, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(unigram.shape[1])[None, :], axis=1)
    return ranks[sources_N, labels_N]


def _accuracies(ranks: dict[str, NDArray[np.int64]], top_k: tuple[int, ...]) -> dict[str, Any]:
    shares = {who: {str(k): float((own_N < k).mean()) for k in top_k} for who, own_N in ranks.items()}
    return {"tokens": len(ranks["model"]), **shares}


def _refuse_other_tokenizer(corpus: Any, model: Any, artifact: Artifact) -> None:
    if corpus.get_vocab() != model.get_vocab():
        raise ModelError(f"{artifact.uri} has another tokenizer than the corpus: its rows mean nothing to this model")
