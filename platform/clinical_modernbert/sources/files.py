"""Raw files: the files that a source names, their bytes as chunks, plain or gzip, up to the first damage, and their lines.

Whether a file is gzip is read from its first bytes, not from its name. Memory is bounded by the chunk, not by the file. A file is
known by the sha256 of its content, one in S3 by its ETag and size, because nothing of it should be read before its task.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import IO

from clinical_modernbert.artifacts.remote_files import is_remote, open_location, remote_files, remote_infos
from clinical_modernbert.artifacts.store import ObjectInfo
from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.document import Quarantined, Unit, is_unicode
from clinical_modernbert.sources.inflate import DamagedFileError, inflated

_BOM = b"\xef\xbb\xbf"
_HASHING_THREADS = 8
_HASHED_BYTES = 1 << 20
_MOST_LINE_BYTES = 1 << 26  # no record of these formats is longer
# Single ones occur in texts of databases, and become blanks.
NULLS = bytes(16)
NULLS_REASON = "a block of null bytes, as of an unfinished copy"
# Text inflates to 3 to 30 times its size, and gzip can reach 1,032. A smaller output is harmless whatever its ratio.
MOST_RATIO = 200
HARMLESS_BYTES = 1 << 26
# "gz" for a form that is not read as gzip: Parquet.
_ARCHIVES = frozenset("7z br bz2 gz lz4 lzma rar snappy sz tar tgz xz z zip zst".split())  # noqa: SIM905


@dataclass(slots=True)
class Progress:
    """How far a file was read; the number of records after damage is unknown."""

    size_bytes: int = 0
    """Size of the file, 0 where it is not read as a stream of bytes."""
    read_bytes: int = 0
    is_whole: bool = False
    """Whether its end was reached, undamaged."""
    missing_bytes: int = 0
    """What a cut file lacks. It is unknown, and assumed to be as much as the file has."""
    given_bytes: int = 0
    """Inflated bytes that were handed to the reader."""
    unused_bytes: int = 0
    """Of ``given_bytes``, those that the reader could not use."""
    other_bytes: int = 0
    """Bytes of other files that were read for this one, as for an index of attachments: the reader does not hang."""

    @property
    def unread_bytes(self) -> int:
        """Bytes of the file that were not read or not used because of damage, and the missing ones."""
        read = self.size_bytes if self.is_whole else self.read_bytes
        used = read - read * self.unused_bytes // max(self.given_bytes, 1)
        return self.size_bytes - used + self.missing_bytes

    def count_damage(self, record: Quarantined) -> None:
        """Note what is lost with ``record``."""
        self.unused_bytes = min(self.unused_bytes + record.unread_bytes, self.given_bytes)
        if record.is_cut:
            self.missing_bytes = self.size_bytes

    def add_file(self, part: "Progress") -> None:
        """Add one file of a unit of several; ``part`` was read up to its end or its damage."""
        self.size_bytes += part.size_bytes
        self.missing_bytes += part.missing_bytes
        self.read_bytes += part.size_bytes + part.missing_bytes - part.unread_bytes

    def count_rows(self, done: int, total: int) -> None:
        """Note that ``done`` of the ``total`` rows of a Parquet file were read; its bytes are counted in proportion."""
        self.read_bytes = self.size_bytes * done // max(total, 1)


def find_files(
    path: str,
    *,
    field: str,
    patterns: tuple[str, ...],
    exclude: tuple[str, ...] = (),
    chosen: Callable[[str], bool] | None = None,
    required: bool = True,
) -> list[tuple[str, str]]:
    """Return (name below ``path``, location) of the matching files, sorted by name; a path of a file is taken as it is.

    A location is a path, or an address in S3. ``chosen`` sees the name below ``path``. ``field`` is the recipe's field in the
    error for a missing path, for a folder without such a file (if ``required``), for a file that is there both plain and as gzip
    (every record would count twice), and for one in an archive that no reader opens (it would be passed over).
    """
    found = _files_below(path)
    if found is None:
        raise SourceError(f"{field}: {path!r} does not exist; expected a file or a folder with {' or '.join(patterns)}")
    if len(found) == 1 and found[0][1].rstrip("/") == path.rstrip("/"):
        return found

    def is_wanted(name: str) -> bool:
        if name.rpartition("/")[2].startswith(".") or named(name, exclude):
            return False
        return named(name, patterns) and (chosen is None or chosen(name))

    files = {name: location for name, location in found if is_wanted(name)}
    for name, _ in found:
        inner, _, ending = name.rpartition(".")
        if name not in files and ending.lower() in _ARCHIVES and is_wanted(inner):
            raise SourceError(
                f"{field}: {name!r} below {path!r} cannot be read in this form (.{ending}); unpack it, or remove it"
            )
    if not files and required:
        raise SourceError(f"{field}: no file below {path!r} matches {' or '.join(patterns)}")
    twice = sorted(name for name in files if f"{name}.gz" in files)
    if twice:
        raise SourceError(f"{field}: {twice[0]!r} is below {path!r} both plain and as .gz; remove one of the two")
    dangling = [
        name for name, location in sorted(files.items()) if not is_remote(location) and not Path(location).is_file()
    ]
    if dangling:
        raise SourceError(f"{field}: {dangling[0]!r} below {path!r} is a link to no file; repair or remove it")
    return sorted(files.items())


def all_files(path: str) -> list[tuple[str, str]]:
    """Return (name below ``path``, location) of all files but hidden ones, sorted by name; links to no file are left out."""
    return sorted(
        (name, location)
        for name, location in _files_below(path) or ()
        if not name.rpartition("/")[2].startswith(".") and (is_remote(location) or Path(location).is_file())
    )


def named(name: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a file is named by one of the patterns, in whatever folder it is."""
    return any(fnmatch(name.rpartition("/")[2], pattern) for pattern in patterns)


def is_folder(path: str) -> bool:
    """Return whether there is a folder, or any object below an address in S3."""
    if not is_remote(path):
        return Path(path).is_dir()
    return any(address != path for _, address, _ in remote_files(path))


def _files_below(path: str) -> list[tuple[str, str]] | None:
    if is_remote(path):
        return [(name, address) for name, address, _ in remote_files(path)] or None
    top = Path(path)
    if top.is_file():
        return [(top.name, path)]
    if not top.is_dir():
        return None
    return [(file.relative_to(top).as_posix(), str(file)) for file in _walk(top)]


def _walk(top: Path) -> Iterator[Path]:
    """Yield the files below ``top``, also below links to folders; nothing that cannot be read is passed over."""

    def refuse(error: OSError) -> None:
        raise SourceError(f"{error.filename} cannot be read ({error.strerror})")

    seen: set[str] = set()
    for folder, _, names in os.walk(top, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            raise SourceError(f"{folder!r} is below its source twice, by a link; remove one of the two")
        seen.add(real)
        for name in names:
            path = Path(folder, name)
            if path.is_file() or path.is_symlink():
                yield path


def path_field(source: str) -> str:
    """Return how messages name the path of a source."""
    return f"sources[{source}].path"


def file_units(
    source: str, files: Iterable[tuple[str, str]], *, check: Callable[[str, str], None] | None = None
) -> list[Unit]:
    """Return one unit a file, in their order, each with its size and digest; ``check`` sees its name and location.

    Local files are hashed once a process, several at the same time. Of a file in S3 only what ``check`` needs is read.
    """
    listed = list(files)
    infos = remote_infos([location for _, location in listed if is_remote(location)])

    def unit(file: tuple[str, str]) -> Unit:
        name, location = file
        if check is not None:
            check(name, location)
        if not is_unicode(name):
            raise SourceError(f"the name of {location!r} is not UTF-8; rename the file")
        if is_remote(location):
            return _remote_unit(source, name, location, infos[location])
        size = Path(location).stat().st_size
        return Unit(source, name, location, digest=content_sums(location).sha256, size_bytes=size)

    with ThreadPoolExecutor(_HASHING_THREADS) as pool:
        return list(pool.map(unit, listed))


def _remote_unit(source: str, name: str, location: str, info: ObjectInfo) -> Unit:
    digest = hashlib.sha256(f"{info.version}\0{info.size_bytes}".encode()).hexdigest()
    return Unit(source, name, location, digest=digest, size_bytes=info.size_bytes, version=info.version)


@dataclass(frozen=True, slots=True)
class Sums:
    """Hashes of one content."""

    sha256: str
    md5: str | None
    """None where it was not asked for."""


def content_sums(location: str, *, with_md5: bool = False) -> Sums:
    """Return the sums of a file, by one pass over it a process as long as it is not changed."""
    stat = Path(location).stat()
    identity = location, stat.st_size, stat.st_mtime_ns, stat.st_ino
    known = _SUMS.get(identity)
    if known is None or (with_md5 and known.md5 is None):
        with open_location(location) as stream:
            known = _SUMS[identity] = sums_of(stream, with_md5=with_md5)
    return known


_SUMS: dict[tuple[str, int, int, int], Sums] = {}


def sums_of(stream: IO[bytes], *, with_md5: bool) -> Sums:
    """Return the sums of what is left of a stream."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    while chunk := stream.read(_HASHED_BYTES):
        sha256.update(chunk)
        if with_md5:
            md5.update(chunk)
    return Sums(sha256.hexdigest(), md5.hexdigest() if with_md5 else None)


def joint_unit(source: str, name: str, files: Sequence[tuple[str, str]]) -> Unit:
    """Return one unit of several files, whose rows belong together."""
    units = file_units(source, files)
    digest = hashlib.sha256("\n".join(f"{unit.name} {unit.digest}" for unit in units).encode()).hexdigest()
    return Unit(source, name, "", digest=digest, size_bytes=sum(u.size_bytes for u in units), files=tuple(files))


def numbered_lines(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line without its newline), streaming; only ``\\n`` ends a line.

    Raises ``DamagedFileError`` for a line of more than 64 MiB, and passes on that of ``chunks``; the lines before are yielded.
    """
    number, pending = 0, bytearray()
    for chunk in chunks:
        if b"\n" in chunk:
            *whole, last = (bytes(pending) + chunk).split(b"\n")
            for line in whole:
                number += 1
                yield number, line
            pending = bytearray(last)
        else:
            pending += chunk
        if len(pending) > _MOST_LINE_BYTES:
            raise DamagedFileError(f"after {_MOST_LINE_BYTES} bytes", "a line without end", unread_bytes=len(pending))
    if pending:
        yield number + 1, bytes(pending)


def numbered_texts(chunks: Iterable[bytes], *, file: str) -> Iterator[tuple[int, str | Quarantined]]:
    """Yield (number from 1, line) in UTF-8 or Windows-1252; damage is one quarantined value at the end.

    A carriage return alone ends a line too, as on old Macs. A line with a block of null bytes is quarantined.

    CMS ships ICD-9-CM v32 (Ménière) in Latin-1 and FDA its products in Windows-1252, which has the same letters and typographic
    dashes and quotes; copies in UTF-8 exist. No text of theirs in one of the former is valid UTF-8.
    """
    number = 0
    try:
        for _, line in numbered_lines(chunks):
            for part in line.removesuffix(b"\r").split(b"\r"):
                number += 1
                if NULLS in part:
                    yield number, Quarantined(file, f"line {number}", NULLS_REASON)
                else:
                    yield number, _decode(part.removeprefix(_BOM) if number == 1 else part)
    except DamagedFileError as error:
        yield (
            number + 1,
            Quarantined(file, f"line {number + 1}, {error.position}", error.reason, unread_bytes=error.unread_bytes),
        )


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")


def size_of(stream: IO[bytes]) -> int:
    """Return the size of an open file, which is at its beginning afterwards."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return size


def read_chunks(location: str | Path, progress: Progress | None = None) -> Iterator[bytes]:
    """Yield the content, inflated where the file is gzip; ``progress`` is kept up to date.

    Raises ``DamagedFileError`` after the last readable byte of a truncated or broken archive, and for one that inflates to more
    than 200 times its size; ``OSError`` passes through.
    """
    progress = progress or Progress()
    with open_location(location) as stream:
        progress.size_bytes = size_of(stream)
        try:
            for chunk in inflated(stream):
                progress.read_bytes = stream.tell()
                progress.given_bytes += len(chunk)
                # A copy that was not finished, or a broken disk, has blocks of them where text was.
                progress.unused_bytes += chunk.count(b"\0")
                if progress.given_bytes > max(HARMLESS_BYTES, MOST_RATIO * progress.read_bytes):
                    progress.unused_bytes = progress.given_bytes  # the whole file counts as not read
                    reason = f"the archive inflates to more than {MOST_RATIO} times its size"
                    raise DamagedFileError(f"byte {progress.read_bytes}", reason)
                yield chunk
        except DamagedFileError as error:
            progress.unused_bytes = min(progress.unused_bytes + error.doubtful_bytes, progress.given_bytes)
            if error.is_cut:
                progress.read_bytes = progress.missing_bytes = progress.size_bytes
            raise
    progress.is_whole = True
