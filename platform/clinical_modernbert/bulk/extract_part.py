"""One range of rows, labelled and written as one Parquet file with the columns of NOTE_NLP (OMOP CDM 5.4).

Spans are those of ``/token-classify``. ``offset`` counts characters of the note from 0. ``term_modifiers`` has label, score and
end, because ``lexical_variant`` ends at 250 characters. Nothing here tells whether a finding is negated or in the past, so
``term_exists`` and ``term_temporal`` are null.

Legend: T tokens of one window, L labels.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from clinical_modernbert.artifacts import resolve, upload
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.bulk.ranges import RangeReader, RangeResult, RowRange, slices, tokenized
from clinical_modernbert.bulk.table import TextRow, quarantine_entry
from clinical_modernbert.encoder import Encoder, forward, load_export
from clinical_modernbert.encoder.embed import batches_by_tokens, longest_first
from clinical_modernbert.encoder.spans import TextSpan, class_of, find_spans, labels_of, scores
from clinical_modernbert.recipe import ExtractRecipe
from clinical_modernbert.sources.document import Quarantined

_ID_BITS = 20
"""A note has fewer than 2 ** 20 spans, so ``note_nlp_id`` is the number of the row, times that, plus that of the span."""
_MOST_CHARACTERS = 250


@dataclass(frozen=True, slots=True)
class Extracted:
    """The spans of one range, and an account of its rows."""

    table: pa.Table
    done: int
    empty: int
    quarantined: list[Quarantined]
    tokens: int
    truncated: int
    in_windows: int
    labels: dict[str, int]


class RangeExtractor:
    """The state of one Ray Data actor: the model, and the file that it is reading."""

    def __init__(self, area: WorkArea, recipe: ExtractRecipe, model_id: str, prefix: str) -> None:
        torch.set_num_threads(recipe.scaling.cpus_per_worker)
        self._area, self._recipe, self._prefix, self._model_id = area, recipe, prefix, model_id
        self._encoder = load_export(
            resolve(area.store(), "model", model_id).folder("model"),
            precision=recipe.precision,
            device="cuda" if recipe.scaling.gpus_per_worker else "cpu",
        )
        self._rows = RangeReader(recipe)

    def __call__(self, rows: RowRange) -> RangeResult:
        """Return the range's result; a range that an earlier run finished is not labelled again."""
        return self._area.once(f"part/{rows.number:06d}", lambda: self._run(rows), RangeResult)

    def _run(self, rows: RowRange) -> RangeResult:
        found = extract_rows(
            self._encoder,
            self._rows.read(rows),
            self._recipe,
            file=rows.table.key,
            first=rows.first,
            system=f"clinical-modernbert {self._model_id}",
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.parquet"
            pq.write_table(found.table, path, compression="zstd")
            entry = upload(self._area.store(), self._prefix, f"note_nlp/{rows.number:06d}.parquet", path)
        return RangeResult(
            file=entry,
            done=found.done,
            empty=found.empty,
            quarantine=tuple(quarantine_entry(item) for item in found.quarantined),
            tokens=found.tokens,
            truncated=found.truncated,
            in_windows=found.in_windows,
            labels=found.labels,
        )


def extract_rows(
    encoder: Encoder,
    rows: Iterable[TextRow | Quarantined],
    recipe: ExtractRecipe,
    *,
    file: str,
    first: int,
    system: str,
) -> Extracted:
    """Return the spans of ``rows`` in their order; ``first`` is the number of the first row, ``system`` is ``nlp_system``."""
    schema, tables, quarantined, labels = note_nlp_schema(recipe), [], [], Counter[str]()
    done = empty = tokens = truncated = in_windows = 0
    number = first
    for some in slices(rows):
        numbers: dict[str, int] = {}
        texts = []
        for row in some:
            number += 1
            if isinstance(row, Quarantined):
                quarantined.append(row)
            elif row.text.strip():
                numbers[row.position] = number - 1
                texts.append(row)
            else:
                empty += 1
        found, too_long = tokenized(encoder, texts, recipe, file=file, with_offsets=True)
        quarantined += too_long
        logits = iter(_logits(encoder, [window for group in found.windows for window in group], recipe))
        columns: list[dict[str, Any]] = []
        for row, group, offsets in zip(found.rows, found.windows, found.offsets, strict=True):
            spans = _spans(encoder, row.text, offsets, [next(logits) for _ in group], recipe)
            labels.update(span.label for span in spans)
            columns += _note_nlp(row, numbers[row.position], spans, recipe, system=system)
        tables.append(pa.Table.from_pylist(columns, schema=schema))
        done += len(found.rows)
        tokens += sum(found.lengths)
        truncated += sum(found.truncated)
        in_windows += sum(len(group) > 1 for group in found.windows)
    return Extracted(
        pa.concat_tables(tables), done, empty, quarantined, tokens, truncated, in_windows, dict(sorted(labels.items()))
    )


def note_nlp_schema(recipe: ExtractRecipe) -> pa.Schema:
    """Return the columns of NOTE_NLP in OMOP's order; integers have 64 bits."""
    note_id = pa.int64() if recipe.id_type == "integer" else pa.string()
    return pa.schema(
        [
            pa.field("note_nlp_id", pa.int64(), nullable=False),
            pa.field("note_id", note_id, nullable=False),
            pa.field("section_concept_id", pa.int64()),
            pa.field("snippet", pa.string()),
            pa.field("offset", pa.string()),
            pa.field("lexical_variant", pa.string(), nullable=False),
            pa.field("note_nlp_concept_id", pa.int64()),
            pa.field("note_nlp_source_concept_id", pa.int64()),
            pa.field("nlp_system", pa.string()),
            pa.field("nlp_date", pa.date32(), nullable=False),
            pa.field("nlp_datetime", pa.timestamp("s")),
            pa.field("term_exists", pa.string()),
            pa.field("term_temporal", pa.string()),
            pa.field("term_modifiers", pa.string()),
        ]
    )


def _note_nlp(
    row: TextRow, number: int, spans: Sequence[TextSpan], recipe: ExtractRecipe, *, system: str
) -> Iterator[dict[str, Any]]:
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    for i, span in enumerate(spans):
        yield {
            "note_nlp_id": (number << _ID_BITS) + i,
            "note_id": int(row.id) if recipe.id_type == "integer" else row.id,
            "section_concept_id": 0,
            "snippet": _snippet(row.text, span, recipe.snippet_characters),
            "offset": str(span.start),
            "lexical_variant": row.text[span.start : span.stop][:_MOST_CHARACTERS],
            "note_nlp_concept_id": recipe.concepts.get(class_of(span.label), 0),
            "note_nlp_source_concept_id": 0,
            "nlp_system": system[:_MOST_CHARACTERS],
            "nlp_date": now.date(),
            "nlp_datetime": now,
            "term_modifiers": f"label={span.label};score={span.score:.4f};end={span.stop}",
        }


def _snippet(text: str, span: TextSpan, characters: int) -> str | None:
    """Return the span with the same number of characters on each side of it, as far as there are any."""
    if not characters:
        return None
    start = max(span.start - max(characters - (span.stop - span.start), 0) // 2, 0)
    return text[start : start + characters]


def _spans(
    encoder: Encoder,
    text: str,
    offsets: Sequence[tuple[int, int]],
    logits: Sequence[NDArray[np.float32]],
    recipe: ExtractRecipe,
) -> list[TextSpan]:
    # Every window has its own [CLS] and [SEP]; without them the text's own tokens remain, up to where it was cut.
    scores_TL = scores(np.concatenate([window_TL[1:-1] for window_TL in logits]), problem=None)
    inner = offsets[1:-1][: len(scores_TL)]
    spans = find_spans(text, inner, scores_TL, labels_of(encoder.model), grouping=recipe.grouping)
    return [span for span in spans if span.label != "O" and span.score >= recipe.min_score]


@torch.inference_mode()
def _logits(encoder: Encoder, ids: Sequence[Sequence[int]], recipe: ExtractRecipe) -> list[NDArray[np.float32]]:
    """Return the head's output [T, L] for each window."""
    lengths = [len(window) for window in ids]
    found: dict[int, NDArray[np.float32]] = {}
    batches = batches_by_tokens(longest_first(lengths), lengths, max_batch_tokens=recipe.scaling.max_batch_tokens)
    for batch in batches:
        for positions in forward.passes(encoder.model, [lengths[i] for i in batch]):
            members = [batch[position] for position in positions]
            logits = forward.logits(encoder.model, [ids[i] for i in members]).float().cpu()
            parts = logits.split([lengths[i] for i in members])
            found.update((i, part_TL.numpy().copy()) for i, part_TL in zip(members, parts, strict=True))
    return [found[i] for i in range(len(ids))]
