"""``Summary``: what a corpus's manifest keeps under ``summary``. It holds counts and positions, no text. Loads no torch."""

import json
from dataclasses import dataclass

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.artifacts.work_area import from_json
from clinical_modernbert.corpus.results import EvaluationSet, QuarantineEntry
from clinical_modernbert.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class Account:
    """The account of one source."""

    records: int
    documents: dict[str, int]
    """By split."""
    dropped: dict[str, int]
    """By reason."""
    repeated_ids: int
    """Documents whose id an earlier one of the same file has; they stay."""
    quarantined: int
    lost: int
    """Further records that damage swallowed, estimated, those of ``unread_bytes`` included; not in the balance."""
    unread_bytes: int
    """Bytes that follow damage, and as many bytes as a cut archive has, because what it lacks is unknown."""
    tokens: dict[str, int]
    """By split, without [CLS] and [SEP]."""
    salient_tokens: int
    languages: dict[str, int]
    identifiers: dict[str, int]
    """By kind."""
    leaking: dict[str, int]
    """Documents dropped as ``contaminated`` or ``listed``, by the path of the evaluation set or list; one that is in two sets
    counts for both."""
    documents_with_identifiers: int
    length_classes: list[int]
    """Documents by the power of two that their tokens are below."""
    longest_document_tokens: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts and figures of a corpus."""

    sources: dict[str, Account]
    training_tokens: dict[str, int]
    """Tokens of text by source that one pass over the training rows shows, epochs counted."""
    synthetic_sources: list[str]
    vocabulary_size: int
    rows: dict[str, dict[str, list[int]]]
    """Row length, as JSON has it -> split -> rows of each shard."""
    fill: dict[str, float]
    """Row length -> share of the places that hold tokens."""
    quarantine: list[QuarantineEntry]
    """The first of the quarantined records."""
    evaluation_sets: list[EvaluationSet]
    """What the documents were compared with."""
    near_unchecked: int
    """Records of MinHash bands in buckets too large to be compared as a whole: templates of which there are tens of thousands."""


def read_summary(corpus: Artifact) -> Summary:
    """Return the summary of a corpus of the present format; raises ``ArtifactError`` for a missing, unknown or wrong field."""
    try:
        return from_json(json.dumps(corpus.summary), Summary)
    except ValueError as error:
        raise ArtifactError(f"{corpus.uri}/manifest.json: summary: {error}") from None
