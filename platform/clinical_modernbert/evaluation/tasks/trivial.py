"""Trivial methods, in whose company an encoder's figure says something: counts of words, a dictionary, the length of a text.

They see the training part that the encoders see, and choose on the development part. They take seconds to minutes on one CPU.

Legend: N examples, C classes, Q queries, D documents.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from clinical_modernbert.bm25 import bm25
from clinical_modernbert.evaluation.tasks.examples import Splits, TextExample, WordExample
from clinical_modernbert.evaluation.tasks.spans import entity_spans
from clinical_modernbert.statistics import Floats

COSTS = (0.1, 1.0, 10.0, 100.0)
_MOST_TERMS = 200_000
_BLOCK = 256  # queries at a time


def majority(train: Sequence[TextExample], labels: Sequence[str], num: int) -> Floats:
    """Return [N, C]: for every text the frequencies of the training labels."""
    counts = Counter(example.label for example in train)
    return np.tile(np.array([counts[label] for label in labels], dtype=np.float64) / len(train), (num, 1))


def by_words(
    splits: Splits[TextExample], labels: Sequence[str], *, figure: Callable[[Floats], float]
) -> tuple[Floats, float]:
    """Return [N, C] of logistic regression on TF-IDF of words and word pairs, and its C: the best by development's ``figure``."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=_MOST_TERMS)
    train = vectors.fit_transform([example.text for example in splits.train])
    development, test = (vectors.transform([e.text for e in part]) for part in (splits.development, splits.test))
    fitted = [(cost, _regression(train, splits.train, cost)) for cost in COSTS]
    cost, best = max(fitted, key=lambda found: figure(_probabilities(found[1], development, labels)))
    return _probabilities(best, test, labels), cost


def by_length(splits: Splits[TextExample], labels: Sequence[str]) -> Floats:
    """Return [N, C] of logistic regression on the logarithm of a text's number of words."""
    train, test = (np.log1p([[len(e.text.split())] for e in part]) for part in (splits.train, splits.test))
    mean, scale = train.mean(), max(train.std(), 1e-9)
    return _probabilities(_regression((train - mean) / scale, splits.train, 1.0), (test - mean) / scale, labels)


def _regression(features: Any, examples: Sequence[TextExample], cost: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=cost, max_iter=1000).fit(features, [example.label for example in examples])


def _probabilities(regression: Any, features: Any, labels: Sequence[str]) -> Floats:
    """Return [N, C]; a label that training lacks has probability 0."""
    found = regression.predict_proba(features)
    probabilities_NC = np.zeros((found.shape[0], len(labels)))
    probabilities_NC[:, [labels.index(label) for label in regression.classes_]] = found
    return probabilities_NC


def dictionary_tags(train: Sequence[WordExample], test: Sequence[WordExample]) -> list[list[str]]:
    """Return IOB2 tags of each test example: the longest run of words that is an entity in training, from left to right.

    Case is ignored. A run with several types in training gets the most frequent one.
    """
    types: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for example in train:
        spelled = _words(example)
        for kind, first, last in entity_spans(example.tags):
            types[tuple(spelled[first : last + 1])][kind] += 1
    longest = max(map(len, types), default=0)
    tagged = []
    for example in test:
        words, tags, at = _words(example), [], 0  # type: list[str], list[str], int
        while at < len(words):
            sizes = range(min(longest, len(words) - at), 0, -1)
            size = next((size for size in sizes if tuple(words[at : at + size]) in types), 0)
            if size:
                kind = types[tuple(words[at : at + size])].most_common(1)[0][0]
                tags += [f"B-{kind}", *[f"I-{kind}"] * (size - 1)]
            else:
                tags.append("O")
            at += size or 1
        tagged.append(tags)
    return tagged


def _words(example: WordExample) -> list[str]:
    return [example.text[start:end].lower() for start, end in example.words]


def tfidf_scores(queries: Sequence[str], documents: Sequence[str], *, characters: bool = False) -> Any:
    """Return a sparse [Q, D]: cosines of TF-IDF vectors of words, or of 3 to 5 characters; fitted on the documents."""
    vectors = _tfidf(characters=characters)
    of_documents = vectors.fit_transform(documents)
    return vectors.transform(queries) @ of_documents.T


def tfidf_pairs(first: Sequence[str], second: Sequence[str], *, characters: bool = False) -> Floats:
    """Return [N]: the cosine of both texts of each pair, fitted on all of them."""
    vectors = _tfidf(characters=characters).fit([*first, *second])
    cosines: Floats = np.asarray(vectors.transform(first).multiply(vectors.transform(second)).sum(axis=1)).ravel()
    return cosines


def _tfidf(*, characters: bool) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    of_characters = {"analyzer": "char_wb", "ngram_range": (3, 5)} if characters else {}
    return TfidfVectorizer(sublinear_tf=True, **of_characters)


def bm25_scores(queries: Sequence[str], documents: Sequence[str]) -> Any:
    """Return a sparse [Q, D] of BM25."""
    return bm25(documents)(queries)


def blocks(scores_QD: Any) -> Iterator[Floats]:
    """Yield the dense scores of some queries at a time."""
    for start in range(0, scores_QD.shape[0], _BLOCK):
        yield scores_QD[start : start + _BLOCK].toarray()
