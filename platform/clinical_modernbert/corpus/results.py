"""What the steps of a corpus build return, in their order; a work area keeps each as JSON with these fields.

    unit --parse--> Parsed, its pieces --three duplicate passes--> Dropped --tokenise--> Tokenised --pack--> PackedGroup

Counts and file entries only: documents, tokens and rows stay in the files of the work area.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from clinical_modernbert.artifacts import FileEntry


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """What documents are compared with: an evaluation set by its texts, or a list of ids."""

    path: str
    """As the recipe has it."""
    items: int
    """Texts of the set, or ids of the list."""
    ngram_words: int | None
    """Length of the sequences of words that are compared; None for a list of ids."""
    ngrams: int
    """Different sequences of the set; texts shorter than one have none."""


@dataclass(frozen=True, slots=True)
class EvaluationNgrams:
    """The step that hashes the evaluation sets."""

    sets: tuple[EvaluationSet, ...]
    combinations: tuple[tuple[int, ...], ...]
    """The combinations of sets that have a sequence in common, each as the numbers of its sets."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """The texts that one group of pieces gives to the training of a tokenizer."""

    texts: int


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The step that writes the tokenizer and the lexicon."""

    vocabulary_size: int
    """Padded to a multiple of 64."""
    num_terms: int


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """One quarantined record: its position and the reason, never its text."""

    source: str
    file: str
    position: str
    reason: str
    record_id: str | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Parsed:
    """One unit, read into pieces."""

    source: str
    """Name of its source in the recipe."""
    unit: str
    counts: dict[str, int]
    """``records``, ``read``, ``quarantined``, ``lost`` (further records, estimated), ``with_identifiers``, ``repeated_ids``, and
    ``dropped:``, ``language:``, ``identifier:`` and ``in:`` with their reasons, codes, kinds, and evaluation sets."""
    pieces: tuple[int, ...]
    """Documents of each piece."""
    quarantine: tuple[QuarantineEntry, ...]
    """The first of them."""
    bytes: int
    """Size of the file, and what a cut archive is assumed to lack."""
    unread_bytes: int
    """Of ``bytes``, those that follow damage or are missing."""

    def count(self, name: str) -> int:
        """Return one of ``counts``, 0 where nothing was counted."""
        return self.counts.get(name, 0)

    @property
    def dropped(self) -> dict[str, int]:
        """Documents that were dropped while reading, by reason."""
        return below(self.counts, "dropped:")


def below(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    """Return the counts whose names begin with ``prefix``, by the remainder of the name."""
    return {key.removeprefix(prefix): n for key, n in counts.items() if key.startswith(prefix)}


@dataclass(frozen=True, slots=True)
class Dropped:
    """One partition of a duplicate pass."""

    dropped: int
    unchecked: int = 0
    """Records of the bands that were not compared with all of their bucket, because it was too large."""


@dataclass(frozen=True, slots=True)
class Partitions:
    """Number of hash partitions of each duplicate pass that is done, 0 of the others."""

    versions: int = 0
    duplicates: int = 0
    near: int = 0
    merged: int = 0
    """1 where the drops of all passes are in one file; the other numbers are 0 then."""


@dataclass(frozen=True, slots=True)
class Tokenised:
    """One piece, as tokens; counts of the documents that the duplicate passes kept."""

    source: str
    documents: dict[str, int]
    """By split."""
    tokens: dict[str, int]
    """By split, without [CLS] and [SEP]."""
    salient_tokens: int
    longest: int
    """Tokens of the longest document."""
    lengths: tuple[int, ...]
    """Documents by the power of two that their tokens are below."""
    dropped: dict[str, int]
    """What the duplicate passes dropped, by reason."""


@dataclass(frozen=True, slots=True)
class Packed:
    """One shard."""

    row_length: int
    split: str
    rows: int
    segments: int
    places_used: int
    """Tokens in the rows, [CLS] and [SEP] included."""
    source_tokens: dict[int, int]
    """Tokens of text by the source's number in the recipe, epochs counted."""
    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True)
class PackedGroup:
    """The shards of one group of pieces."""

    shards: tuple[Packed, ...]
    """One a row length, in the order of the recipe."""
