"""One part of a bulk job: its rows read, embedded and written as one Parquet file.

A part is a function of table, recipe and model alone, so a killed job does its open parts again and nothing else.
An actor loads the model once and reads a file on from where its last part ended.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clinical_modernbert.artifacts import open_store, resolve, upload
from clinical_modernbert.artifacts.work_area import StepResult, WorkArea
from clinical_modernbert.bulk.table import TableFile, TextRow, fetch, quarantine_entry, read_table_rows
from clinical_modernbert.encoder import Encoder, load_export
from clinical_modernbert.encoder.windows import average, cut, windows
from clinical_modernbert.recipe import EmbedRecipe
from clinical_modernbert.sources.document import Quarantined


@dataclass(frozen=True, slots=True)
class Part:
    """Rows ``start`` to ``stop`` of one file, what cannot be read counted as rows."""

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
    """The rows of one part that have a vector, and an account of the others."""

    table: pa.Table
    num_empty: int
    quarantined: list[Quarantined]


class PartEmbedder:
    """What one Ray Data actor holds: the model, and the file that it is reading."""

    def __init__(self, area: WorkArea, recipe: EmbedRecipe, model_id: str, parts: Sequence[Part], prefix: str) -> None:
        import torch

        torch.set_num_threads(recipe.scaling.cpus_per_worker)
        self._area, self._recipe, self._parts, self._prefix = area, recipe, parts, prefix
        self._encoder = load_export(resolve(area.store(), "model", model_id).folder("model"))
        if recipe.scaling.gpus_per_worker:
            self._encoder.model.to("cuda")
        self._rows = _Rows(recipe)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the part's number and its result; a part that an earlier run finished is not embedded again."""
        part = self._parts[row["id"]]
        result = self._area.once(f"part/{part.number:06d}", lambda: self._run(part))
        return {"id": row["id"], "result": json.dumps(result)}

    def _run(self, part: Part) -> StepResult:
        found = embed_rows(self._encoder, self._rows.read(part), self._recipe, file=part.table.key)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "part.parquet"
            pq.write_table(found.table, path, compression="zstd")
            entry = upload(self._area.store(), self._prefix, part.path, path)
        columns = found.table.select(["num_tokens", "truncated", "windows"]).to_pydict()
        return {
            "file": entry.model_dump(),
            "embedded": len(found.table),
            "empty": found.num_empty,
            "quarantine": [quarantine_entry(item) for item in found.quarantined],
            "tokens": sum(columns["num_tokens"]),
            "truncated": sum(columns["truncated"]),
            "in_windows": sum(number > 1 for number in columns["windows"]),
        }


def embed_rows(encoder: Encoder, rows: Sequence[TextRow | Quarantined], recipe: EmbedRecipe, *, file: str) -> Embedded:
    """Return the vectors of ``rows`` in their order, with ids and metadata, and what has none."""
    texts = [row for row in rows if isinstance(row, TextRow) and row.text.strip()]
    quarantined = [row for row in rows if isinstance(row, Quarantined)]
    limit = min(recipe.max_tokens, encoder.max_tokens)
    token_ids = encoder.tokenize([row.text for row in texts])
    if recipe.long_texts == "quarantine":
        reason = f"longer than {limit} tokens"
        quarantined += [
            Quarantined(file, row.position, reason, record_id=row.id)
            for row, ids in zip(texts, token_ids, strict=True)
            if len(ids) > limit
        ]
        short = [(row, ids) for row, ids in zip(texts, token_ids, strict=True) if len(ids) <= limit]
        texts, token_ids = [row for row, _ in short], [ids for _, ids in short]
    pieces = [[cut(ids, limit)] if recipe.long_texts == "truncate" else windows(ids, limit) for ids in token_ids]
    flat = [piece for group in pieces for piece in group]
    raw_ND = encoder.embed(
        flat, pooling=recipe.pooling, normalize=False, max_batch_tokens=recipe.scaling.max_batch_tokens
    )
    vectors_ND = np.empty((len(texts), encoder.hidden_size), dtype=np.float32)
    first = 0
    for i, group in enumerate(pieces):
        vectors_ND[i] = average(list(raw_ND[first : first + len(group)]), [len(piece) for piece in group])
        first += len(group)
    if recipe.normalize:
        vectors_ND /= np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)
    columns: dict[str, pa.Array] = {"id": pa.array([row.id for row in texts], pa.string())}
    for i, name in enumerate(recipe.metadata_columns):
        columns[name] = pa.array([row.metadata[i] for row in texts], pa.string())
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.ravel()), encoder.hidden_size)
    columns["num_tokens"] = pa.array([len(ids) for ids in token_ids], pa.int32())
    truncated = [len(group) == 1 and len(group[0]) < len(ids) for group, ids in zip(pieces, token_ids, strict=True)]
    columns["truncated"] = pa.array(truncated, pa.bool_())
    columns["windows"] = pa.array([len(group) for group in pieces], pa.int32())
    num_empty = sum(isinstance(row, TextRow) and not row.text.strip() for row in rows)
    return Embedded(table=pa.table(columns), num_empty=num_empty, quarantined=quarantined)


class _Rows:
    """The file of the last part, open where that part ended; an actor's parts mostly follow each other."""

    def __init__(self, recipe: EmbedRecipe) -> None:
        self._recipe = recipe
        self._table: TableFile | None = None
        self._folder = tempfile.TemporaryDirectory()
        self._place = 0
        self._open: Iterator[TextRow | Quarantined] = iter(())

    def read(self, part: Part) -> list[TextRow | Quarantined]:
        if part.table != self._table or part.start < self._place:
            self._folder.cleanup()
            self._folder = tempfile.TemporaryDirectory()
            location = fetch(open_store(part.table.root), part.table, Path(self._folder.name))
            self._open = read_table_rows(location, file=part.table.key, recipe=self._recipe)
            self._table, self._place = part.table, 0
        rows = list(islice(self._open, part.start - self._place, part.stop - self._place))
        self._place = part.stop
        assert len(rows) == part.stop - part.start, (part.table.key, part.start, part.stop, len(rows))
        return rows
