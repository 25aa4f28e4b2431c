"""Rows that are in no document, in readers whose documents are made of many rows: counted by file and reason.

A corpus counts records. A row that cannot be read is a small share of one, so a file's rows with one reason are one quarantined
record, and ``num_lost`` says to how many records they amount: documents, and what a rule dropped. Example: 300 of 10,000 rows of
100 patients are three records, because the source lost as large a share.
"""

from collections.abc import Iterator
from dataclasses import replace

from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.files import Progress

_POSITIONS = 3


class LeftOut:
    """The rows of one unit that are in no document."""

    def __init__(self) -> None:
        self.num_rows = 0
        """Rows that were read, with those left out."""
        self._found: dict[tuple[str, str], list[str]] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def add(self, record: Quarantined) -> None:
        """Count a row, and those that ``record`` says are lost with it."""
        key = record.file, record.reason
        self._counts[key] = self._counts.get(key, 0) + 1 + record.num_lost
        positions = self._found.setdefault(key, [])
        if len(positions) < _POSITIONS:
            positions.append(record.position)

    def add_damage(self, record: Quarantined, progress: Progress) -> None:
        """Count a record that a reader of rows quarantined; ``progress`` of its file counts the unread bytes."""
        progress.count_damage(record)
        self.add(replace(record, unread_bytes=0, is_cut=False))

    def quarantined(self, num_records: int) -> Iterator[Quarantined]:
        """Yield one record for each file and reason, once all rows are read and ``num_records`` were yielded."""
        for (file, reason), count in self._counts.items():
            positions = self._found[file, reason]
            more = f" and {count - len(positions)} more" if count > len(positions) else ""
            lost = round(count * num_records / max(self.num_rows, 1))
            yield Quarantined(file, f"{', '.join(positions)}{more}", reason, num_lost=max(lost - 1, 0))
