"""Dense retrieval: vectors of queries and documents, exact cosine search, trec_eval's metrics; zero-shot or fine-tuned.

Fine-tuning is contrastive: of the documents of a batch the query's own must be nearest (temperature 0.05).

Legend: Q queries, D documents, W width.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.heads import hidden_states, load_base, load_tokenizer, mixed_precision, pooled
from clinical_modernbert.evaluation.outcome import Outcome
from clinical_modernbert.evaluation.scores import Scored
from clinical_modernbert.evaluation.tasks.retrieval_sets import RetrievalSet
from clinical_modernbert.evaluation.tasks.windows import encode_texts
from clinical_modernbert.evaluation.tuning import Epoch, Problem, by_length, tune
from clinical_modernbert.recipe import FineTuneRecipe, ProbeRecipe

_DEPTH = 1000
_TEMPERATURE = 0.05
_MEASURES = {"ndcg_cut_10": "ndcg@10", "P_10": "precision@10", "recall_10": "recall@10", "map": "map"}


def retrieve(recipe: FineTuneRecipe | ProbeRecipe, encoder: LocalEncoder, data: RetrievalSet) -> Outcome:
    """Rank the documents for every reported query; a fine-tuning recipe trains on the training pairs first."""
    tokenizer, base = load_tokenizer(encoder.folder), load_base(encoder, attention=recipe.scaling.attention)
    budget = recipe.scaling.max_batch_tokens
    facts, num_cut = dict(data.facts), 0

    def encode(texts: Sequence[str]) -> list[list[int]]:
        nonlocal num_cut
        ids, cut = encode_texts(tokenizer, texts, max_tokens=encoder.max_tokens)
        num_cut += cut
        return ids

    counts = {"queries": len(data.queries), "documents": len(data.documents)}
    epochs: list[Epoch] = []
    best = head = None
    if isinstance(recipe, FineTuneRecipe):
        train, development = (
            list(zip(encode([a for a, _ in part]), encode([b for _, b in part]), strict=True))
            for part in (data.train_pairs, data.development_pairs)
        )
        counts.update(train=len(train), development=len(development))
        problem = contrastive_problem(base, train, development, pooling=encoder.pooling, max_batch_tokens=budget)
        epochs, best = tune(base, problem, section=recipe.tuning, seed=recipe.seed, max_batch_tokens=budget)
        head = {"kind": "embedding", "pooling": encoder.pooling, "max_tokens": encoder.max_tokens}
    queries, documents = (
        embed(base, encode(texts), pooling=encoder.pooling, max_batch_tokens=budget)
        for texts in (data.queries, data.documents)
    )
    if num_cut:
        facts["texts_cut_to_the_limit"] = num_cut
    found = search(queries, documents, query_ids=data.query_ids, document_ids=data.document_ids)
    metrics = retrieval_metrics(data.qrels, found, data.query_ids)
    scored = Scored("retrieval", np.arange(len(metrics)), {"metrics": metrics})
    ranks = first_ranks(data.qrels, found, data.query_ids)
    model = base if isinstance(recipe, FineTuneRecipe) else None
    return Outcome(scored, counts, facts, [], epochs, best, extra={"first_rank": ranks}, model=model, head=head)


def embed(base: Any, ids: Sequence[Sequence[int]], *, pooling: str, max_batch_tokens: int) -> NDArray[np.float32]:
    """Return one vector a text, float32 [N, W], in the order given."""
    vectors: NDArray[np.float32] = np.empty((len(ids), base.config.hidden_size), dtype=np.float32)
    base.eval()
    with torch.inference_mode(), mixed_precision():
        for part in by_length([len(text) for text in ids], max_batch_tokens=max_batch_tokens):
            texts = [ids[i] for i in part]
            vectors[part] = pooled(hidden_states(base, texts), [len(t) for t in texts], pooling).float().cpu().numpy()
    return vectors


def search(
    queries_QW: NDArray[np.float32],
    documents_DW: NDArray[np.float32],
    *,
    query_ids: Sequence[str],
    document_ids: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Return the nearest 1,000 documents of each query with their cosine; exact."""
    queries, documents = _unit(queries_QW), _unit(documents_DW)
    found: dict[str, dict[str, float]] = {}
    depth = min(_DEPTH, len(documents))
    for start in range(0, len(queries), 256):
        scores = queries[start : start + 256] @ documents.T
        top = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        for row, columns in enumerate(top):
            query = query_ids[start + row]
            found[query] = {document_ids[c]: float(scores[row, c]) for c in columns.tolist()}
    return found


def retrieval_metrics(
    qrels: dict[str, dict[str, int]], found: dict[str, dict[str, float]], query_ids: Sequence[str]
) -> NDArray[np.float64]:
    """Return [Q, 4] in the order of ``RETRIEVAL_METRICS``, computed by trec_eval."""
    import pytrec_eval

    results = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "P.10", "recall.10", "map"}).evaluate(found)
    return np.array([[results[query][name] for name in _MEASURES] for query in query_ids])


def first_ranks(
    qrels: dict[str, dict[str, int]], found: dict[str, dict[str, float]], query_ids: Sequence[str]
) -> NDArray[np.int64]:
    """Return [Q]: the rank, from 1, of each query's first relevant document; 0 where none was found."""
    ranks = []
    for query in query_ids:
        # Of equal scores trec_eval puts the larger id first; the ranks must be those that its metrics saw.
        ranking = [(score, document) for document, score in found[query].items()]
        best = max((place for place in ranking if qrels[query].get(place[1], 0) > 0), default=None)
        ranks.append(0 if best is None else sum(place >= best for place in ranking))
    return np.array(ranks, dtype=np.int64)


def contrastive_problem(
    base: Any,
    pairs: Sequence[tuple[list[int], list[int]]],
    development: Sequence[tuple[list[int], list[int]]],
    *,
    pooling: str,
    max_batch_tokens: int,
) -> Problem:
    """Return the problem of telling each query's document from the others of its batch; judged by the share told right."""

    def scores(chosen: Sequence[tuple[list[int], list[int]]]) -> torch.Tensor:
        sides = []
        for side in (0, 1):
            ids = [pair[side] for pair in chosen]
            with mixed_precision():
                vectors = pooled(hidden_states(base, ids), [len(text) for text in ids], pooling).float()
            sides.append(torch.nn.functional.normalize(vectors, dim=1))
        return sides[0] @ sides[1].T / _TEMPERATURE

    def loss_sum(members: Sequence[int]) -> torch.Tensor:
        logits = scores([pairs[i] for i in members])
        return torch.nn.functional.cross_entropy(
            logits, torch.arange(len(members), device=logits.device), reduction="sum"
        )

    def development_figure() -> float:
        query, document = (
            _unit(embed(base, [pair[side] for pair in development], pooling=pooling, max_batch_tokens=max_batch_tokens))
            for side in (0, 1)
        )
        ranks = (query @ document.T >= (query * document).sum(1, keepdims=True) - 1e-6).sum(1)
        return float((1 / ranks).mean())

    # A batch must stay whole: its other documents are the wrong answers. Hence no length that would cut it.
    return Problem([1] * len(pairs), [1] * len(pairs), loss_sum, development_figure)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
