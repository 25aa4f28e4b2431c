"""Ranges of the rows of a table: planned, read, cut into slices and tokenized, for every bulk job.

A range's file is a function of table, recipe and model alone, so a killed job repeats its open ranges and nothing else.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from clinical_modernbert.artifacts import FileEntry, open_store
from clinical_modernbert.bulk.table import Entry, TableFile, TextRow, fetch, read_table_rows
from clinical_modernbert.encoder import Encoder
from clinical_modernbert.encoder.windows import cut, windows
from clinical_modernbert.recipe import TableRecipe
from clinical_modernbert.sources.document import Quarantined

SLICE_CHARACTERS = 2_000_000
"""Text that is tokenized at the same time. A token takes about 200 bytes meanwhile; a real tokenizer has one for 4 characters."""


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows ``start`` to ``stop`` of one file; a row that cannot be read is a row too."""

    number: int
    table: TableFile
    start: int
    stop: int
    first: int = 0
    """Number of its first row among the rows of all files."""


@dataclass(frozen=True, slots=True)
class RangeResult:
    """One range, read by the model: its file and its counts of rows."""

    file: FileEntry
    done: int
    """Rows that the model read."""
    empty: int
    quarantine: tuple[Entry, ...]
    tokens: int
    truncated: int
    in_windows: int
    labels: dict[str, int]
    """Spans of each label, for extracted spans."""


def plan_ranges(tables: Sequence[TableFile], num_rows: Sequence[int], *, max_rows: int) -> list[RowRange]:
    """Return ranges of at most ``max_rows`` rows; those of one file differ by one row at most, so that workers end together."""
    bounds, before = [], 0
    for table, rows in zip(tables, num_rows, strict=True):
        number = -(-rows // max_rows)
        for i in range(number):
            start = rows * i // number
            bounds.append((table, start, rows * (i + 1) // number, before + start))
        before += rows
    return [RowRange(number, *bound) for number, bound in enumerate(bounds)]


def slices(rows: Iterable[TextRow | Quarantined]) -> Iterator[list[TextRow | Quarantined]]:
    """Cut rows into lists of at most ``SLICE_CHARACTERS`` of text, or one row; there is always one, if only an empty one."""
    some: list[TextRow | Quarantined] = []
    size = 0
    for row in rows:
        length = len(row.text) if isinstance(row, TextRow) else 0
        if some and size + length > SLICE_CHARACTERS:
            yield some
            some, size = [], 0
        some.append(row)
        size += length
    yield some


@dataclass(frozen=True, slots=True)
class TokenizedTexts:
    """The texts that the model reads, in their order, with what was left out."""

    rows: list[TextRow]
    windows: list[list[list[int]]]
    """Token ids of each window of each text; [CLS] and [SEP] are in each."""
    lengths: list[int]
    """Tokens of each text, before it was cut."""
    offsets: list[list[tuple[int, int]]]
    """Characters of each token of each text."""

    @property
    def truncated(self) -> list[bool]:
        """Whether each text was cut."""
        return [len(group) == 1 and len(group[0]) < n for group, n in zip(self.windows, self.lengths, strict=True)]


def tokenized(
    encoder: Encoder, texts: Sequence[TextRow], recipe: TableRecipe, *, file: str, with_offsets: bool = False
) -> tuple[TokenizedTexts, list[Quarantined]]:
    """Return the texts as the recipe reads long ones, and those that are too long for it."""
    limit = min(recipe.max_tokens, encoder.max_tokens)
    if with_offsets and texts:
        encoded = encoder.tokenizer(
            [row.text for row in texts], return_offsets_mapping=True, truncation=False, padding=False
        )
        token_ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    else:
        token_ids, offsets = encoder.tokenize([row.text for row in texts]), [[] for _ in texts]
    kept, too_long = list(range(len(texts))), []
    if recipe.long_texts == "quarantine":
        reason = f"longer than {limit} tokens"
        too_long = [
            Quarantined(file, row.position, reason, record_id=row.id)
            for row, some in zip(texts, token_ids, strict=True)
            if len(some) > limit
        ]
        kept = [i for i, some in enumerate(token_ids) if len(some) <= limit]
    ids = [token_ids[i] for i in kept]
    found = TokenizedTexts(
        rows=[texts[i] for i in kept],
        windows=[[cut(some, limit)] if recipe.long_texts == "truncate" else windows(some, limit) for some in ids],
        lengths=[len(some) for some in ids],
        offsets=[offsets[i] for i in kept],
    )
    return found, too_long


class RangeReader:
    """The file of the last range, open where that range ended; the ranges of an actor mostly follow each other."""

    def __init__(self, recipe: TableRecipe) -> None:
        self._recipe = recipe
        self._table: TableFile | None = None
        self._folder = tempfile.TemporaryDirectory()
        self._location = Path()
        self._position = 0
        self._reader: Iterator[TextRow | Quarantined] = iter(())

    def read(self, rows: RowRange) -> Iterator[TextRow | Quarantined]:
        """Yield the rows of a range as they are read."""
        if rows.table != self._table:
            self._folder.cleanup()
            self._folder = tempfile.TemporaryDirectory()
            self._location = fetch(open_store(rows.table.root), rows.table, Path(self._folder.name))
            self._table, self._position = rows.table, -1
        if rows.start != self._position:
            self._reader = read_table_rows(self._location, file=rows.table.key, recipe=self._recipe, start=rows.start)
            self._position = rows.start
        for row in islice(self._reader, rows.stop - rows.start):
            self._position += 1
            yield row
        assert self._position == rows.stop, (rows.table.key, rows.start, rows.stop, self._position)
