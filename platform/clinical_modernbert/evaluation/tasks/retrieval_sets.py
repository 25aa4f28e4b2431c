"""Retrieval sets: BEIR's layout with judgements, or texts cut in halves, which need no judgements."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from numpy.typing import NDArray

from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.results import Facts
from clinical_modernbert.evaluation.tasks.examples import carve, drawn
from clinical_modernbert.evaluation.tasks.ranking import Rankings, rank
from clinical_modernbert.recipe.tasks import RetrievalTask
from clinical_modernbert.sources.evaluation_sets import evaluation_texts, pmc_patients


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """Queries, documents, and which document answers which query."""

    query_ids: list[str]
    queries: list[str]
    document_ids: list[str]
    documents: list[str]
    qrels: dict[str, dict[str, int]]
    """Query id -> document id -> grade."""
    train_pairs: list[tuple[str, str]]
    """(query text, text of a relevant document) to fine-tune on; empty where there are none."""
    development_pairs: list[tuple[str, str]]
    facts: Facts
    drop_identical_ids: bool = True
    """A document with a query's own id is not ranked for it."""

    def ranked(self, scores: Iterable[NDArray[Any]]) -> Rankings:
        """Return the best documents of each query from blocks of scores [B, D], in the order of queries and documents."""
        return rank(
            scores,
            query_ids=self.query_ids,
            document_ids=self.document_ids,
            drop_identical_ids=self.drop_identical_ids,
        )

    def texts(self) -> list[str]:
        """Return documents, reported queries, and the queries of training."""
        pairs = self.train_pairs + self.development_pairs
        return [*self.documents, *self.queries, *(query for query, _ in pairs)]

    def few(self, num_train: int, *, seed: int) -> Self:
        """Return a few-shot copy: ``num_train`` training pairs drawn by ``seed``, and no more development pairs."""
        train, development = (
            drawn(pairs, num_train, seed=seed) for pairs in (self.train_pairs, self.development_pairs)
        )
        return replace(self, train_pairs=train, development_pairs=development)


def retrieval_set(task: RetrievalTask, folder: Path) -> RetrievalSet:
    """Read a retrieval task's files; ``SourceError`` with file and line for what cannot be read."""
    if task.format == "halves":
        return _halves(task, list(evaluation_texts(folder / task.queries)))
    assert task.corpus is not None and task.qrels is not None
    documents: dict[str, str] = {}
    for line, entry in enumerate(pmc_patients.read_entries(folder / task.corpus), start=1):
        if entry.id in documents:
            raise SourceError(f"{task.corpus}, document {line}: the id {entry.id!r} occurs twice")
        documents[entry.id] = f"{entry.title} {entry.text}".strip()
    queries = _queries(folder / task.queries)
    qrels, num_absent = _qrels(folder / task.qrels, queries, documents, drop_identical_ids=task.drop_identical_ids)
    reported = [query for query in queries if query in qrels][: task.max_test]
    facts: Facts = {"documents": len(documents)}
    if num_absent:
        facts["relevant_documents_not_in_the_corpus"] = num_absent
    if len(queries) > len(qrels):
        facts["queries_without_a_relevant_document"] = len(queries) - len(qrels)
    if task.drop_identical_ids and (num_own := sum(query in documents for query in reported)):
        facts["queries_whose_own_document_is_not_ranked"] = num_own
    graded_in = dict.fromkeys(qrels, task.qrels)
    train: list[tuple[str, str]] = []
    development: list[tuple[str, str]] = []
    if task.development_queries is not None and task.development_qrels is not None:
        development = _pairs(folder, task.development_queries, task.development_qrels, documents, graded_in)
        # As for other tasks: early stopping on a set larger than the training set would save nothing.
        development = development[: task.max_train and max(task.max_train // 4, 8)]
    if task.train_queries is not None and task.train_qrels is not None:
        train = _pairs(folder, task.train_queries, task.train_qrels, documents, graded_in)[: task.max_train]
    if train and not development:
        num_development = max(round(len(train) * task.split.development_fraction), 1)
        train, development = train[num_development:], train[:num_development]
    return RetrievalSet(
        reported, [queries[q] for q in reported], list(documents), list(documents.values()),
        {q: qrels[q] for q in reported}, train, development, facts, task.drop_identical_ids,
    )  # fmt: skip


def _queries(path: Path) -> dict[str, str]:
    return {entry.id: entry.text for entry in pmc_patients.read_entries(path)}


def _pairs(
    folder: Path, queries_name: str, qrels_name: str, documents: dict[str, str], graded_in: dict[str, str]
) -> list[tuple[str, str]]:
    """Return each graded query's text with that of its best document; adds the queries to ``graded_in`` (query -> file)."""
    queries = _queries(folder / queries_name)
    graded, _ = _qrels(folder / qrels_name, queries, documents, drop_identical_ids=True)
    twice = sorted(graded.keys() & graded_in.keys())
    if twice:
        raise SourceError(
            f"{qrels_name}: query {twice[0]!r} is also graded in {graded_in[twice[0]]}; a query must be in one split only"
        )
    graded_in.update(dict.fromkeys(graded, qrels_name))
    found = ((q, {d: grade for d, grade in grades.items() if d in documents}) for q, grades in graded.items())
    return [(queries[q], documents[max(grades, key=lambda d: grades[d])]) for q, grades in found if grades]


def _qrels(
    path: Path, queries: Collection[str], documents: Collection[str], *, drop_identical_ids: bool
) -> tuple[dict[str, dict[str, int]], int]:
    """Return query -> relevant document -> grade, and how many of these documents the corpus does not have.

    No method can find those, in BEIR neither: ArguAna has five. Where most are absent, the judgements are of another corpus.
    """
    qrels: dict[str, dict[str, int]] = {}
    absent: list[tuple[int, str]] = []
    for line, query, document, grade in pmc_patients.read_qrels(path):
        if query in queries and grade > 0 and not (drop_identical_ids and query == document):
            if document not in documents:
                absent.append((line, document))
            qrels.setdefault(query, {})[document] = grade
    if not qrels:
        raise SourceError(f"{path.name} grades no document for any of the {len(queries)} queries")
    num_graded = sum(map(len, qrels.values()))
    if 2 * len(absent) > num_graded:
        line, document = absent[0]
        raise SourceError(
            f"{path.name}, line {line}: document {document!r} is not in the corpus, as {len(absent)} of {num_graded} relevant"
        )
    return qrels, len(absent)


@dataclass(frozen=True, slots=True)
class _Half:
    group: str
    first: str
    second: str


def _halves(task: RetrievalTask, texts: list[str]) -> RetrievalSet:
    """Make a set without judgements: each text's first half is a query for its second half among all second halves."""
    halves = []
    for number, text in enumerate(dict.fromkeys(texts)):
        words = text.split()
        middle = len(words) // 2
        if middle >= 20:
            halves.append(_Half(str(number), " ".join(words[:middle]), " ".join(words[middle:])))
    if len(halves) < 8:
        raise SourceError(f"{task.queries}: {len(halves)} texts of at least 40 words; format=halves needs 8")
    train, test = carve(halves, 0.5, salt=f"test {task.split.seed}")
    train, development = carve(train, task.split.development_fraction, salt="development")
    return RetrievalSet(
        [half.group for half in test][: task.max_test], [half.first for half in test][: task.max_test],
        [half.group for half in halves], [half.second for half in halves],
        {half.group: {half.group: 1} for half in test[: task.max_test]},
        [(half.first, half.second) for half in train][: task.max_train],
        [(half.first, half.second) for half in development],
        # The second half has its query's id.
        {"documents": len(halves), "judgements": "made: the two halves of a text belong together"}, False,
    )  # fmt: skip
