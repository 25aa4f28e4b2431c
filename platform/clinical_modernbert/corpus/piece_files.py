"""Pieces: the documents of one file between the passes of a build. Every pass after parsing works piece by piece.

A piece holds at most ``PIECE_DOCUMENTS`` documents, and eight times as many versions of records, so that memory does not grow
with the file: a file of two million notes becomes many pieces, a file of PubMed one. Its files in the work area: its documents
(``documents/<n>.parquet``), of each the key with order and version (``keys``), the hash of its text (``hashes``), and the bands
of its MinHash (``bands``, in the order of their partitions).
"""

import hashlib
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus.dedup.minhash import BAND, band_records
from clinical_modernbert.recipe.corpus import CorpusRecipe

SCHEMA = pa.schema([("text", pa.string()), ("key", pa.uint64()), ("held_out", pa.bool_())])
HASH = np.dtype([("high", "<u8"), ("low", "<u8"), ("piece", "<u4"), ("row", "<u4")])
KEY = np.dtype(
    [
        ("key", "<u8"),
        ("order", "<i8"),
        ("version", "<i8"),
        ("place", "<u4"),
        ("row", "<u4"),
        ("deleted", "?"),
        ("piece", "<u4"),
    ]
)
NO_ROW = 2**32 - 1  # of a version that a rule or filter dropped, which still supersedes the earlier ones
PIECE_DOCUMENTS = 65_536
PIECES_A_UNIT = 4096  # at most
_PIECE_CHARACTERS = 1 << 28
_VERSIONS_A_DOCUMENT = 8  # at most; a file may hold millions of versions that a rule drops, as reports without text
_BATCH = 2048


@dataclass(frozen=True, slots=True, order=True)
class PieceId:
    """Piece ``number`` of unit ``unit``, both from 0; ids sort as their documents do."""

    unit: int
    number: int

    @property
    def index(self) -> int:
        """The integer by which arrays and file names know the piece."""
        return self.unit * PIECES_A_UNIT + self.number

    def __str__(self) -> str:
        """The name of the piece's files in the work area."""
        return f"{self.index:09d}"


class Version(NamedTuple):
    """One version of a record, or a notice that deletes it; the fields of ``KEY`` but for the piece."""

    key: int
    """Hash of the source and the record's name."""
    order: int
    version: int
    place: int
    """Number of the record in its unit; the abstracts of one citation share it."""
    row: int
    """Row of its document in the piece, or ``NO_ROW``."""
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece that was written."""

    id: PieceId
    source: str
    """Name of its source in the recipe."""
    num_rows: int


class PieceWriter:
    """A piece while it is written: documents are written in batches; keys and hashes stay in memory, 64 bytes a document."""

    def __init__(self, area: WorkArea, recipe: CorpusRecipe, piece: PieceId, num_bands_partitions: int) -> None:
        self.num_rows = 0
        self.num_characters = 0
        self.versions: list[Version] = []
        self._area, self._id, self._num_partitions = area, piece, num_bands_partitions
        self._near = recipe.dedup.near
        self._min_words = recipe.dedup.min_words
        self._hashes: list[tuple[int, int, int, int]] = []
        self._bands = [np.empty(0, dtype=BAND)]
        self._rows: list[tuple[str, int, bool]] = []
        self._open = ExitStack()
        self._path = Path(self._open.enter_context(tempfile.TemporaryDirectory())) / "documents.parquet"
        self._writer = self._open.enter_context(pq.ParquetWriter(self._path, SCHEMA, compression="zstd"))

    def add(self, text: str, key: int, *, held_out: bool) -> None:
        """Add a document; its row is ``num_rows`` before the call."""
        self._hashes.append((*_content_hash(text), self._id.index, self.num_rows))
        self._rows.append((text, key, held_out))
        self.num_rows += 1
        self.num_characters += len(text)
        if len(self._rows) == _BATCH:
            self._flush()

    def is_full(self) -> bool:
        """Return whether the next document should open another piece."""
        return (
            self.num_rows >= PIECE_DOCUMENTS or self.num_characters >= _PIECE_CHARACTERS or self.is_full_of_versions()
        )

    def is_full_of_versions(self) -> bool:
        """Return whether the next version of a record without a document should open another piece."""
        return len(self.versions) >= _VERSIONS_A_DOCUMENT * PIECE_DOCUMENTS

    def put(self) -> None:
        """Put the piece into the work area."""
        self._flush()
        self._writer.close()
        self._area.put(self._path, f"documents/{self._id}.parquet")
        keys = np.array([(*version, self._id.index) for version in self.versions], dtype=KEY)
        self._area.put_array(keys[np.argsort(keys["key"], kind="stable")], f"keys/{self._id}.npy")
        hashes = np.array(self._hashes, dtype=HASH)
        self._area.put_array(hashes[np.argsort(hashes, order=("high", "low", "row"))], f"hashes/{self._id}.npy")
        if self._near:
            bands = np.concatenate(self._bands)
            partition_of = bands["hash"] % np.uint64(self._num_partitions)
            self._area.put_array(bands[np.argsort(partition_of, kind="stable")], f"bands/{self._id}.npy")
        self.discard()

    def discard(self) -> None:
        """Delete the files of a piece that was not put."""
        self._open.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        columns = list(zip(*self._rows, strict=True))
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        self._writer.write_table(pa.table(arrays, schema=SCHEMA))
        if self._near:
            rows = np.arange(self.num_rows - len(self._rows), self.num_rows)
            self._bands.append(band_records(list(columns[0]), rows, piece=self._id.index, min_words=self._min_words))
        self._rows.clear()


def _content_hash(text: str) -> tuple[int, int]:
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
