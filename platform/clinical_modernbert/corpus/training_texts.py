"""The texts on which a tokenizer is trained: drawn from the pieces by tasks, read by the task that trains.

Every piece gives the same share, so that no source is left out. Texts are of the training split and of what the duplicate passes
kept. Drawn in one task, the pieces of PubMed would be hours of downloads.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus.dedup.exact import kept_rows
from clinical_modernbert.corpus.piece_files import Piece
from clinical_modernbert.corpus.results import Partitions, Sampled
from clinical_modernbert.corpus.tokens import read_texts


def draw_texts(area: WorkArea, *, pieces: Sequence[Piece], group: int, partitions: Partitions, share: int) -> Sampled:
    """Keep texts of at most ``share`` bytes of each piece for ``drawn_texts``."""

    def run() -> Sampled:
        texts = [text for piece in pieces for text in _texts(area, piece, partitions, share)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "texts.parquet"
            pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), path, compression="zstd")
            area.put(path, _name(group))
        return Sampled(len(texts))

    return area.once(f"drawn/{group:04d}", run, Sampled)


def drawn_texts(area: WorkArea, num_groups: int) -> list[str]:
    """Return the texts of all groups, in the order of their pieces."""
    texts: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for group in range(num_groups):
            texts += pq.read_table(area.get(_name(group), Path(folder)))["text"].to_pylist()
    return texts


def _name(group: int) -> str:
    return f"texts/{group:04d}.parquet"


def _texts(area: WorkArea, piece: Piece, partitions: Partitions, share: int) -> Iterator[str]:
    left = share
    kept = kept_rows(area, piece=piece, partitions=partitions)
    for batch in read_texts(area, piece=piece.id, kept=kept):
        for text, _, held_out in batch:
            size = len(text.encode())
            if not held_out and size <= left:
                yield text
                left -= size
        if left < share // 100:
            break
