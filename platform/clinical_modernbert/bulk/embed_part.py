"""One range of rows, embedded and written as one Parquet file. An actor loads the model once and reads on where it ended."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clinical_modernbert.artifacts import resolve, upload
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.bulk.ranges import RangeReader, RangeResult, RowRange, slices, tokenized
from clinical_modernbert.bulk.table import TextRow, quarantine_entry
from clinical_modernbert.encoder import Encoder, load_export, pooling_of
from clinical_modernbert.encoder.output_types import as_output
from clinical_modernbert.encoder.windows import average
from clinical_modernbert.recipe import EmbedRecipe
from clinical_modernbert.recipe.vocabulary import Pooling
from clinical_modernbert.sources.document import Quarantined


@dataclass(frozen=True, slots=True)
class Embedded:
    """The rows of one range that have a vector, and an account of the others."""

    table: pa.Table
    num_empty: int
    quarantined: list[Quarantined]


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
        self._rows = RangeReader(recipe)

    def __call__(self, rows: RowRange) -> RangeResult:
        """Return the range's result; a range that an earlier run finished is not embedded again."""
        return self._area.once(f"part/{rows.number:06d}", lambda: self._run(rows), RangeResult)

    def _run(self, rows: RowRange) -> RangeResult:
        result = embed_rows(
            self._encoder, self._rows.read(rows), self._recipe, pooling=self._pooling, file=rows.table.key
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.parquet"
            pq.write_table(result.table, path, compression="zstd")
            entry = upload(self._area.store(), self._prefix, f"vectors/{rows.number:06d}.parquet", path)
        columns = result.table.select(["num_tokens", "truncated", "windows"]).to_pydict()
        return RangeResult(
            file=entry,
            done=len(result.table),
            empty=result.num_empty,
            quarantine=tuple(quarantine_entry(item) for item in result.quarantined),
            tokens=sum(columns["num_tokens"]),
            truncated=sum(columns["truncated"]),
            in_windows=sum(number > 1 for number in columns["windows"]),
            labels={},
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


def _embed_texts(
    encoder: Encoder, texts: Sequence[TextRow], recipe: EmbedRecipe, *, pooling: Pooling, file: str
) -> tuple[pa.Table, list[Quarantined]]:
    """Return the rows of the texts that the recipe embeds, and those that are too long for it."""
    found, too_long = tokenized(encoder, texts, recipe, file=file)
    vectors_ND = _vectors(encoder, found.windows, recipe, pooling=pooling)
    columns: dict[str, pa.Array] = {"id": pa.array([row.id for row in found.rows], pa.string())}
    for i, name in enumerate(recipe.metadata_columns):
        columns[name] = pa.array([row.metadata[i] for row in found.rows], pa.string())
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.ravel()), vectors_ND.shape[1])
    columns["num_tokens"] = pa.array(found.lengths, pa.int32())
    columns["truncated"] = pa.array(found.truncated, pa.bool_())
    columns["windows"] = pa.array([len(group) for group in found.windows], pa.int32())
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
