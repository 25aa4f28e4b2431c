"""The Binary resources of a FHIR export, by id, for the notes that refer to them.

Lines of NDJSON are read in place, from an index of their positions (about 200 bytes a resource). From gzip, an array or indented
resources nothing can be read from the middle: their content is written to a file on the disk of the worker (``TMPDIR``) once a
process. What is damaged is not in the index, and the notes that refer to it are quarantined.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import IO

from clinical_modernbert.artifacts.remote_files import open_location
from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.files import Progress, find_files, read_chunks
from clinical_modernbert.sources.inflate import GZIP_MAGIC
from clinical_modernbert.sources.json_values import read_values
from clinical_modernbert.sources.notes.fhir_resources import patterns

BINARY_FILES = patterns("Binary")
_KIND = "Binary"
_MOST_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a JSON object with the ``data`` of a resource is."""

    file: str | IO[bytes]
    """Location, or the copy."""
    offset: int
    size: int


def binary_data(identifier: str, top: str, progress: Progress) -> str | None:
    """Return the base64 of a Binary of the export in ``top``, empty where it has none; None where it is not there.

    The first call reads all Binary files of the export, and counts their bytes in ``progress``.
    """
    place = _binaries(top, progress).get(identifier)
    if place is None:
        return None
    stream = _opened(place.file) if isinstance(place.file, str) else place.file
    stream.seek(place.offset)
    data = json.loads(stream.read(place.size)).get("data")
    return data if isinstance(data, str) else ""


@lru_cache(maxsize=4)
def _opened(location: str) -> IO[bytes]:
    # Stays open: in S3 the notes of an export that is in the order of its resources then share ranges.
    return open_location(location)


def _binaries(top: str, progress: Progress) -> dict[str, _Place]:
    """Return the place of each Binary; one pass over the files of an export in a process."""
    if top not in _INDEX:
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - stays open, and so on the disk, as long as its places
        places: dict[str, _Place] = {}
        for _, location in find_files(top, field="path", patterns=BINARY_FILES, required=False):
            places |= dict(_in_place(location, progress)) or dict(_copied(location, copy, progress))
        _INDEX.clear()
        _INDEX[top] = places
    return _INDEX[top]


_INDEX: dict[str, dict[str, _Place]] = {}
"""Of the export that was read last."""


def _in_place(location: str, progress: Progress) -> Iterator[tuple[str, _Place]]:
    offset = 0
    with open_location(location) as stream:
        # A longer line comes in parts, which are not JSON; nor is gzip.
        while line := stream.readline(_MOST_BYTES):
            if offset == 0 and line.startswith(GZIP_MAGIC):
                return
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                resource = json.loads(line)
                if resource["resourceType"] == _KIND:
                    yield str(resource["id"]), _Place(location, offset, len(line))
            offset += len(line)
            progress.other_bytes += len(line)


def _copied(location: str, copy: IO[bytes], progress: Progress) -> Iterator[tuple[str, _Place]]:
    part, before = Progress(), progress.other_bytes
    for item in read_values(read_chunks(location, part), file=location):
        progress.other_bytes = before + part.given_bytes
        resource = None if isinstance(item, Quarantined) else item.value
        if isinstance(resource, dict) and resource.get("resourceType") == _KIND and "id" in resource:
            content = json.dumps({"data": resource.get("data")}).encode()
            yield str(resource["id"]), _Place(copy, copy.tell(), len(content))
            copy.write(content)
