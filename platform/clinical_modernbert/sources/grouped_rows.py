"""Rows of several files, grouped by patient: sorted on disk by SQLite, so that one patient at a time is in memory.

Exports of FHIR and OMOP hold one table a file, and a patient's rows are in all of them. The disk needs about as much space as
the rows have text; it is the one of TMPDIR.
"""

import errno
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path

Value = str | int | None
_CACHE_KIB = 65_536


class GroupedRows:
    """Rows that are added in any order and read by group, in the order in which they were added."""

    def __init__(self, connection: sqlite3.Connection, *, num_values: int) -> None:
        columns = [f"v{number}" for number in range(num_values)]
        self._connection = connection
        connection.execute(f"CREATE TABLE rows (patient TEXT, {', '.join(columns)})")
        self._insert = f"INSERT INTO rows VALUES ({', '.join('?' * (num_values + 1))})"
        self._select = f"SELECT patient, {', '.join(columns)} FROM rows ORDER BY patient, rowid"

    def add(self, patient: str, values: Iterable[Value]) -> None:
        """Add a row; texts are Unicode, numbers have at most 64 bits."""
        self._connection.execute(self._insert, (patient, *values))

    def groups(self) -> Iterator[tuple[str, list[tuple[Value, ...]]]]:
        """Yield each patient with its rows."""
        for patient, rows in groupby(self._connection.execute(self._select), key=itemgetter(0)):
            yield patient, [row[1:] for row in rows]


@contextmanager
def grouped_rows(*, num_values: int) -> Iterator[GroupedRows]:
    """Hand out an empty ``GroupedRows`` whose file is deleted afterwards; a full disk is an ``OSError``."""
    with tempfile.TemporaryDirectory(prefix="events-") as folder:
        connection = sqlite3.connect(Path(folder) / "rows.sqlite", isolation_level=None)
        try:
            for setting in ("journal_mode=OFF", "synchronous=OFF", "temp_store=FILE", f"cache_size=-{_CACHE_KIB}"):
                connection.execute(f"PRAGMA {setting}")
            connection.execute("BEGIN")
            yield GroupedRows(connection, num_values=num_values)
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise OSError(errno.ENOSPC, "No space left on device") from None
            raise
        finally:
            connection.close()
