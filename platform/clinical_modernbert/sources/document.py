"""The values that sources yield: documents, deletions, dropped and quarantined records; and the units that hold them."""

import hashlib
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """One text with its identity; ``text`` is stored in the corpus only, never in a log or manifest."""

    id: str
    """Unique within its source: a PMID, a note_id, a code."""
    source: str
    """Name of the source in the recipe."""
    group: str
    """Held out as a whole: the patient, PMID or code concept."""
    text: str
    version: int = 0
    """Version of the record where its format numbers them (a PMID's ``Version``), from 1; the highest wins."""
    order: int = 0
    """Position of its file in the order of updates; of equal versions the later file wins."""
    record: str | None = None
    """Record whose later versions replace this one (the PMID, also of another abstract); None where a format has no versions."""
    encounter: str | None = None
    """Hospital stay of a note (``encounter:<hadm_id>``), where the format names it."""

    @property
    def key(self) -> int:
        """64-bit hash of source and id, the name by which shards know the document."""
        return key_of(self.source, self.id)


def key_of(source: str, name: str) -> int:
    """Return the 64-bit hash of a source and of a document's or record's name in it."""
    return int.from_bytes(hashlib.blake2b(f"{source}\0{name}".encode(), digest_size=8).digest(), "little")


def is_unicode(value: str) -> bool:
    """Return whether UTF-8 can hold ``value``; a name or an escape in JSON may have half of a character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


_WHOLE_NUMBER = re.compile(r"0*(\d+)(?:\.0*)?", re.ASCII)
ENCOUNTER = "encounter"
PATIENT = "patient"
"""Name of the groups of patients, whatever a source calls them."""


def group_of(name: str, value: str) -> str:
    """Return ``<name>:<value>``, with ``whole_number(value)``."""
    return f"{name}:{whole_number(value)}"


def whole_number(value: str) -> str:
    """Return a whole number in one spelling (CSV has ``0012`` or ``12.0`` where Parquet has 12), anything else stripped."""
    value = value.strip()
    number = _WHOLE_NUMBER.fullmatch(value)
    return number[1] if number else value


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record or file that could not be read: its position and the reason, never its text."""

    file: str
    """Name of the file below its source."""
    position: str
    """``record 17``, ``line 1203``, ``byte 88123``: as exact as the format allows."""
    reason: str
    record_id: str | None = None
    sha256: str | None = None
    """Hash of the record's bytes where its borders are known."""
    num_lost: int = 0
    """About how many further records are lost with this one."""
    unread_bytes: int = 0
    """Inflated bytes that the reader was given and did not use because of this damage; the records in them are not counted."""
    is_cut: bool = False
    """Whether the file ends here although more was to come."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A record that a rule left out (a title without abstract, a language that the source does not keep)."""

    reason: str
    record: str | None = None
    """As in a document: a dropped version still replaces the earlier ones."""
    version: int = 0
    order: int = 0


@dataclass(frozen=True, slots=True)
class Deleted:
    """An instruction to remove a record that this file or an earlier one brought (PubMed's ``DeleteCitation``)."""

    record: str
    """The record within the source."""
    order: int = 0
    """Position of its file in the order of updates: a record that a later file brings again stays."""
    version: int = 0
    """The version that it removes; 0 for all versions."""


Record = Document | Deleted | Dropped | Quarantined
"""What a reader yields for one raw record."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The input of one task: one raw file, or one part of a generated source."""

    source: str
    """Name of the source in the recipe."""
    name: str
    """Name of the file below its source, stable across machines."""
    location: str
    """Path of the file, or its address in S3; empty for a generated part."""
    first_record: int = 0
    num_records: int | None = None
    """For generated parts: which records; None for files."""
    digest: str = ""
    """sha256 of the file, of the ETag and size of one in S3, or of the generator's version and settings."""
    size_bytes: int = 0
    """Size of the files; 0 for a folder and for generated parts."""
    files: tuple[tuple[str, str], ...] = ()
    """(name, location) of each file of a unit of several, whose ``location`` is empty."""
    version: str = ""
    """ETag of a file in S3 when it was listed; empty for any other unit."""
