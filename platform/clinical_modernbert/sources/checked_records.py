"""What holds for the records of every reader: a corpus can store them, and no message about them has their text.

A reader meets files of any kind. A record that no array or UTF-8 file can hold is quarantined here. An exception that the reader
does not know becomes an error that names the file, the record and the line of code, because its own message may quote a note.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from traceback import extract_tb

from clinical_modernbert.artifacts.remote_files import is_remote, open_location
from clinical_modernbert.errors import SourceError, UserError
from clinical_modernbert.sources.document import Deleted, Document, Dropped, Quarantined, Record, Unit, is_unicode
from clinical_modernbert.sources.files import Progress, size_of

MOST_CHARACTERS = 1 << 26
"""Of one text; a discharge summary has about 100,000."""
# A shifted column may bring a sentence where an id belongs.
_IDENTIFIER = re.compile(r"(?=\D*\d)[\w.:/#+-]{1,64}", re.ASCII)
_SMALLEST, _LARGEST = -(1 << 63), (1 << 63) - 1


def checked_records(records: Iterable[Record], unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield the records of ``unit``; ``progress`` counts what is lost with quarantined ones."""
    number = 0
    try:
        for number, record in enumerate(records, start=1):
            checked = record if isinstance(record, Quarantined) else _checked(record, unit, number)
            if isinstance(checked, Quarantined):
                progress.count_damage(checked)
                checked = replace(checked, record_id=shown_id(checked.record_id))
            yield checked
        if not number and _is_empty(unit):
            yield Quarantined(unit.name, "the whole file", "the file is empty")
    except FileNotFoundError:
        raise SourceError(
            f"{unit.source}/{unit.name} is no longer there; put it back, or run the build again"
        ) from None
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever a reader meets
        # Without its cause: the message of any exception may quote the input.
        last = extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
        raise SourceError(
            f"{unit.source}/{unit.name}: what follows record {number} cannot be read ({place}); leave the file out and report it"
        ) from None


def _is_empty(unit: Unit) -> bool:
    is_file = bool(unit.version) if is_remote(unit.location) else Path(unit.location).is_file()
    if not is_file:
        return False
    with open_location(unit.location) as stream:
        return not size_of(stream)


def shown_id(value: str | None) -> str | None:
    """Return ``value`` where it looks like an id, else None."""
    return value if value is not None and _IDENTIFIER.fullmatch(value) else None


def _checked(record: Document | Deleted | Dropped, unit: Unit, number: int) -> Record:
    name = record.id if isinstance(record, Document) else record.record
    reason = None
    if not _SMALLEST <= record.version <= _LARGEST:
        reason = "a version of more than 64 bits"
    elif isinstance(record, Document) and len(record.text) > MOST_CHARACTERS:
        reason = f"a text of more than {MOST_CHARACTERS} characters"
    elif not all(value is None or is_unicode(value) for value in _names(record)):
        reason = "an id or group that is not Unicode"
    return record if reason is None else Quarantined(unit.name, f"record {number}", reason, name)


def _names(record: Document | Deleted | Dropped) -> tuple[str | None, ...]:
    return (record.id, record.group, record.record) if isinstance(record, Document) else (record.record,)
