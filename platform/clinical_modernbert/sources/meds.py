"""MEDS events in Parquet (schema of ``meds`` 0.4: subject_id, time, code, numeric_value, text_value): one text a subject.

Events come in time order, static ones (time null) first; events of one moment stand in one line behind their time.
Files of a MEDS data set hold whole subjects, sorted by subject, so that one subject at a time is in memory. A file
where a subject comes back after another is sorted in memory instead, and one beyond ``_MOST_UNSORTED`` rows is
quarantined: shard it by subject first.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clinical_modernbert.recipe.sources import MedsSource
from clinical_modernbert.sources.document import Document, Dropped, Quarantined

PATTERNS = ("*.parquet",)

_BATCH_ROWS = 65_536
_MOST_UNSORTED = 20_000_000
_VALUES = ("numeric_value", "value")

_Event = tuple[Any, str, float | None, str | None]


def read_subjects(location: Path, *, file: str, source: MedsSource) -> Iterator[Document | Dropped | Quarantined]:
    """Yield one value for each subject; the id is the subject's, the group ``subject_id:<id>`` as in MIMIC's notes.

    Codes of ``source.leave_out`` (prefixes) are left out; a subject without any other event is dropped as ``empty``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(location)
        names = parquet.schema_arrow.names
        missing = [name for name in ("subject_id", "time", "code") if name not in names]
        if missing:
            yield Quarantined(file, "schema", f"no column {', '.join(missing)}; MEDS has subject_id, time and code")
            return
        value = next((name for name in _VALUES if name in names), None)
        text = "text_value" if "text_value" in names else None
        columns = [name for name in ("subject_id", "time", "code", value, text) if name]
        if not _is_grouped(parquet):
            if parquet.metadata.num_rows > _MOST_UNSORTED:
                yield Quarantined(file, "schema", "a subject's events lie apart; shard the data set by subject first")
                return
            table = parquet.read(columns=columns).sort_by([("subject_id", "ascending")])
            batches = table.to_batches(max_chunksize=_BATCH_ROWS)
        else:
            batches = parquet.iter_batches(batch_size=_BATCH_ROWS, columns=columns)
        subject, events = None, []  # type: int | None, list[_Event]
        for batch in batches:
            rows = batch.to_pydict()
            empty = [None] * batch.num_rows
            values, texts = (rows[value] if value else empty), (rows[text] if text else empty)
            for number, *event in zip(rows["subject_id"], rows["time"], rows["code"], values, texts, strict=True):
                if number != subject:
                    if subject is not None:
                        yield _subject(subject, events, source)
                    subject, events = number, []
                events.append((event[0], event[1], event[2], event[3]))
        if subject is not None:
            yield _subject(subject, events, source)
    except (pa.ArrowInvalid, OSError) as error:
        yield Quarantined(file, "the whole file", f"no readable Parquet ({type(error).__name__})")


def _is_grouped(parquet: Any) -> bool:
    """Whether each subject's rows stand together, by a pass over that column alone."""
    seen: set[int] = set()
    last = None
    for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=["subject_id"]):
        column = batch.column(0)
        for run in column.to_numpy(zero_copy_only=False).tolist():
            if run != last:
                if run in seen:
                    return False
                seen.add(run)
                last = run
    return True


def _subject(subject: int, events: list[_Event], source: MedsSource) -> Document | Dropped:
    kept = [event for event in events if event[1] and not event[1].startswith(source.leave_out)]
    if not kept:
        return Dropped("empty")
    # Stable: events of one moment keep the file's order. Static events have no time and come first.
    kept.sort(key=lambda event: (event[0] is not None, event[0]) if event[0] is not None else (False,))
    lines: list[str] = []
    at: Any = object()
    for time, code, number, text in kept:
        words = _event_text(code, number, text)
        if time == at:
            lines[-1] += f"; {words}"
        else:
            lines.append(words if time is None else f"{time:%Y-%m-%d %H:%M}: {words}")
            at = time
    return Document(str(subject), source.name, f"subject_id:{subject}", "\n".join(lines))


def _event_text(code: str, number: float | None, text: str | None) -> str:
    """``LAB//220045//bpm`` with 88.0 -> ``LAB 220045 bpm 88``."""
    parts = [part for part in code.split("//") if part]
    if number is not None and number == number:
        parts.append(f"{number:.6g}")
    if text:
        parts.append(" ".join(text.split()))
    return " ".join(parts)
