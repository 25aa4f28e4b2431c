"""One range of rows of a bulk job: read, embedded and written as one Parquet file.

A range's file is a function of table, recipe and model alone, so a killed job repeats its open ranges and nothing else.
An actor loads the model once and continues to read a file where its last range ended.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clinical_modernbert.artifacts import FileEntry, open_store, resolve, upload
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.bulk.table import Entry, TableFile, TextRow, fetch, quarantine_entry, read_table_rows
from clinical_modernbert.encoder import Encoder, load_export, pooling_of
from clinical_modernbert.encoder.output_types import as_output
from clinical_modernbert.encoder.windows import average, cut, windows
from clinical_modernbert.recipe import EmbedRecipe
from clinical_modernbert.recipe.vocabulary import Pooling
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

    @property
    def path(self) -> str:
        """Its file below the artifact."""
        return f"vectors/{self.number:06d}.parquet"


@dataclass(frozen=True, slots=True)
class Embedded:
    """The rows of one range that have a vector, and an account of the others."""

    table: pa.Table
    num_empty: int
    quarantined: list[Quarantined]


@dataclass(frozen=True, slots=True)
class EmbeddedRange:
    """One range, embedded: its file and its counts of rows."""

    file: FileEntry
    embedded: int
    empty: int
    quarantine: tuple[Entry, ...]
    tokens: int
    truncated: int
    in_windows: int


class RangeEmbedder:
    """The state of one Ray Data actor: the model, and the file that it is reading."""

    def __init__(self, area: WorkArea, recipe: EmbedRecipe, model_id: str, prefix: str) -> None:
        import torch

        torch.set_num_threads(recipe.scaling.cpus_per_worker)
        self._area, self._recipe, self._prefix = area, recipe, prefix
        model = resolve(area.store(), "model", model_id)
        self._pooling = pooling_of(model, recipe.pooling)
        self._encoder = load_export(
            model.folder("model"),
            precision=recipe.precision,
            pooling=self._pooling,
            device="cuda" if recipe.scaling.gpus_per_worker else "cpu",
        )
        self._rows = _Rows(recipe)

    def __call__(self, rows: RowRange) -> EmbeddedRange:
        """Return the range's result; a range that an earlier run finished is not embedded again."""
        return self._area.once(f"part/{rows.number:06d}", lambda: self._run(rows), EmbeddedRange)

    def _run(self, rows: RowRange) -> EmbeddedRange:
        result = embed_rows(
            self._encoder, self._rows.read(rows), self._recipe, pooling=self._pooling, file=rows.table.key
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.parquet"
            pq.write_table(result.table, path, compression="zstd")
            entry = upload(self._area.store(), self._prefix, rows.path, path)
        columns = result.table.select(["num_tokens", "truncated", "windows"]).to_pydict()
        return EmbeddedRange(
            file=entry,
            embedded=len(result.table),
            empty=result.num_empty,
            quarantine=tuple(quarantine_entry(item) for item in result.quarantined),
            tokens=sum(columns["num_tokens"]),
            truncated=sum(columns["truncated"]),
            in_windows=sum(number > 1 for number in columns["windows"]),
        )


def embed_rows(
    encoder: Encoder, rows: Iterable[TextRow | Quarantined], recipe: EmbedRecipe, *, pooling: Pooling, file: str
) -> Embedded:
    """Return the vectors of ``rows`` in their order, with ids and metadata, and what has none.

    Texts are tokenized and embedded in slices, so that memory does not grow with the length of the texts of a range.
    """
    tables, quarantined, num_empty = [], [], 0
    for some in slices(rows):
        texts = [row for row in some if isinstance(row, TextRow)]
        quarantined += [row for row in some if isinstance(row, Quarantined)]
        filled = [row for row in texts if row.text.strip()]
        num_empty += len(texts) - len(filled)
        table, too_long = _embed_texts(encoder, filled, recipe, pooling=pooling, file=file)
        tables.append(table)
        quarantined += too_long
    return Embedded(table=pa.concat_tables(tables), num_empty=num_empty, quarantined=quarantined)


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


def _embed_texts(
    encoder: Encoder, texts: Sequence[TextRow], recipe: EmbedRecipe, *, pooling: Pooling, file: str
) -> tuple[pa.Table, list[Quarantined]]:
    """Return the rows of the texts that the recipe embeds, and those that are too long for it."""
    limit = min(recipe.max_tokens, encoder.max_tokens)
    token_ids = encoder.tokenize([row.text for row in texts])
    too_long = []
    if recipe.long_texts == "quarantine":
        reason = f"longer than {limit} tokens"
        pairs = list(zip(texts, token_ids, strict=True))
        too_long = [Quarantined(file, row.position, reason, record_id=row.id) for row, ids in pairs if len(ids) > limit]
        texts = [row for row, ids in pairs if len(ids) <= limit]
        token_ids = [ids for _, ids in pairs if len(ids) <= limit]
    texts_windows = [[cut(ids, limit)] if recipe.long_texts == "truncate" else windows(ids, limit) for ids in token_ids]
    vectors_ND = _vectors(encoder, texts_windows, recipe, pooling=pooling)
    columns: dict[str, pa.Array] = {"id": pa.array([row.id for row in texts], pa.string())}
    for i, name in enumerate(recipe.metadata_columns):
        columns[name] = pa.array([row.metadata[i] for row in texts], pa.string())
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.ravel()), vectors_ND.shape[1])
    columns["num_tokens"] = pa.array([len(ids) for ids in token_ids], pa.int32())
    truncated = [
        len(group) == 1 and len(group[0]) < len(ids) for group, ids in zip(texts_windows, token_ids, strict=True)
    ]
    columns["truncated"] = pa.array(truncated, pa.bool_())
    columns["windows"] = pa.array([len(group) for group in texts_windows], pa.int32())
    return pa.table(columns), too_long


def _vectors(
    encoder: Encoder, texts_windows: Sequence[Sequence[list[int]]], recipe: EmbedRecipe, *, pooling: Pooling
) -> NDArray[Any]:
    """Return one vector a text, the mean of its windows, in the width and type of the recipe."""
    flat = [window for group in texts_windows for window in group]
    raw_ND = encoder.embed(flat, pooling=pooling, normalize=False, max_batch_tokens=recipe.scaling.max_batch_tokens)
    vectors_ND = np.empty((len(texts_windows), encoder.hidden_size), dtype=np.float32)
    first = 0
    for i, group in enumerate(texts_windows):
        vectors_ND[i] = average(list(raw_ND[first : first + len(group)]), [len(window) for window in group])
        first += len(group)
    vectors_ND = vectors_ND[:, : recipe.dimensions]
    if recipe.normalize:
        vectors_ND = vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)
    return as_output(vectors_ND, recipe.vector_type)


class _Rows:
    """The file of the last range, open where that range ended; the ranges of an actor mostly follow each other."""

    def __init__(self, recipe: EmbedRecipe) -> None:
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
