"""Pieces: what one file's documents are kept in between the passes, and what the passes work by.

A piece holds its documents (``documents/<n>.parquet``), and of each its key with order and version (``keys``), the hash of its
text (``hashes``) and the bands of its MinHash (``bands``, one file a partition).
"""

import hashlib
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus.dedup.minhash import BAND, band_records
from clinical_modernbert.recipe.corpus import CorpusRecipe

SCHEMA = pa.schema([("text", pa.string()), ("key", pa.uint64()), ("held_out", pa.bool_())])
HASH = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<u4")])
KEY = np.dtype(
    [("key", "<u8"), ("order", "<i8"), ("version", "<i8"), ("place", "<u4"), ("row", "<u4"), ("deleted", "?")]
)
NO_ROW = 2**32 - 1  # of a version that a rule or filter dropped, which still supersedes the earlier ones
PIECE_DOCUMENTS = 65_536
PIECES_A_UNIT = (
    4096  # at most; piece n of unit u has the number u * 4096 + n, so that pieces sort as their documents do
)
_PIECE_CHARACTERS = 1 << 28
_BATCH = 2048


class PieceWriter:
    """A piece while it is written: documents leave in batches, keys and hashes are 64 bytes a document."""

    def __init__(self, area: WorkArea, recipe: CorpusRecipe, number: int, num_parts: int) -> None:
        self.num_rows = 0
        self.num_characters = 0
        self.keys: list[tuple[int, int, int, int, int, bool]] = []
        self._area, self._number, self._num_parts = area, number, num_parts
        self._near = recipe.dedup.near
        self._min_words = recipe.dedup.min_words
        self._hashes: list[tuple[int, int, int]] = []
        self._bands = [np.empty(0, dtype=BAND)]
        self._rows: list[tuple[str, int, bool]] = []
        self._open = ExitStack()
        self._path = Path(self._open.enter_context(tempfile.TemporaryDirectory())) / "documents.parquet"
        self._writer = self._open.enter_context(pq.ParquetWriter(self._path, SCHEMA, compression="zstd"))

    def add(self, text: str, key: int, *, held_out: bool) -> None:
        """Add a document; ``num_rows`` was its row."""
        self._hashes.append((*_content_hash(text), self.num_rows))
        self._rows.append((text, key, held_out))
        self.num_rows += 1
        self.num_characters += len(text)
        if len(self._rows) == _BATCH:
            self._flush()

    def is_full(self) -> bool:
        """Return whether the next document should open another piece."""
        return self.num_rows >= PIECE_DOCUMENTS or self.num_characters >= _PIECE_CHARACTERS

    def put(self) -> None:
        """Keep the piece in the work area."""
        self._flush()
        self._writer.close()
        name = f"{self._number:09d}"
        self._area.put(self._path, f"documents/{name}.parquet")
        keys = np.array(self.keys, dtype=KEY)
        self._area.put_array(keys[np.argsort(keys["key"], kind="stable")], f"keys/{name}.npy")
        hashes = np.array(self._hashes, dtype=HASH)
        self._area.put_array(hashes[np.argsort(hashes, order=("high", "low", "row"))], f"hashes/{name}.npy")
        if self._near:
            bands = np.concatenate(self._bands)
            part_of = bands["hash"] % np.uint64(self._num_parts)
            for part in range(self._num_parts):
                self._area.put_array(bands[part_of == part], f"bands/{part:04d}/{name}.npy")
        self.discard()

    def discard(self) -> None:
        """Delete what was not put."""
        self._open.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        columns = list(zip(*self._rows, strict=True))
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        self._writer.write_table(pa.table(arrays, schema=SCHEMA))
        if self._near:
            rows = np.arange(self.num_rows - len(self._rows), self.num_rows)
            self._bands.append(band_records(list(columns[0]), rows, piece=self._number, min_words=self._min_words))
        self._rows.clear()


def _content_hash(text: str) -> tuple[int, int]:
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
