"""Raw files: the files that a source names, their bytes as chunks, plain or gzip, up to the first damage, and their lines.

Whether a file is gzip is read from its first bytes, not from its name. Memory is bounded by the chunk, not by the file.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any

from clinical_modernbert.artifacts.remote_files import fetched, is_remote, remote_files
from clinical_modernbert.errors import SourceError
from clinical_modernbert.hashing import file_sha256
from clinical_modernbert.sources.document import Quarantined, Unit

COMPANION = ".md5"
"""Ending of a file next to another with its sum, which is fetched with it."""
_BOM = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"
_INPUT_BYTES = 1 << 16
_OUTPUT_BYTES = 1 << 18
_MOST_LINE_BYTES = 1 << 26  # no record of these formats is longer


@dataclass(slots=True)
class Progress:
    """How far a file was read; the number of records after damage is unknown."""

    size_bytes: int = 0
    """Size of the file, 0 where it is not read as a stream of bytes."""
    read_bytes: int = 0
    is_whole: bool = False
    """Whether its end was reached, undamaged."""
    missing_bytes: int = 0
    """What a cut archive lacks. It is unknown, and assumed to be as much as the archive has."""

    @property
    def unread_bytes(self) -> int:
        """Bytes that were not read, to within 64 KiB: of the file after damage, and the missing ones."""
        return 0 if self.is_whole else self.size_bytes - self.read_bytes + self.missing_bytes

    def count_rows(self, done: int, total: int) -> None:
        """Note that ``done`` of the ``total`` rows of a Parquet file were read; its bytes are counted in proportion."""
        self.read_bytes = self.size_bytes * done // max(total, 1)


class DamagedFileError(Exception):
    """A file cannot be read from a position on; everything before it was yielded."""

    def __init__(self, position: str, reason: str, *, is_cut: bool = False) -> None:
        super().__init__(f"{position}: {reason}")
        self.position = position
        self.reason = reason
        self.is_cut = is_cut
        """Whether the file ends there although more was to come."""


def find_files(
    path: str, *, field: str, patterns: tuple[str, ...], exclude: tuple[str, ...] = ()
) -> list[tuple[str, str]]:
    """Return (name below ``path``, location) of the matching files, sorted by name; a path of a file is taken as it is.

    A location is a path, or an address in S3. ``field`` is the recipe's field in the error for a missing path, an empty folder,
    or a file that is there both plain and as gzip: both would be read, and every record counted twice.
    """
    found = _files_below(path)
    if found is None:
        raise SourceError(f"{field}: {path!r} does not exist; expected a file or a folder with {' or '.join(patterns)}")
    if len(found) == 1 and found[0][1].rstrip("/") == path.rstrip("/"):
        return found
    files = {
        name: location
        for name, location in found
        if _matches(base := name.rpartition("/")[2], patterns) and not (base.startswith(".") or _matches(base, exclude))
    }
    if not files:
        raise SourceError(f"{field}: no file below {path!r} matches {' or '.join(patterns)}")
    twice = sorted(name for name in files if f"{name}.gz" in files)
    if twice:
        raise SourceError(f"{field}: {twice[0]!r} is below {path!r} both plain and as .gz; remove one of the two")
    return sorted(files.items())


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
    return [(file.relative_to(top).as_posix(), str(file)) for file in top.rglob("*") if file.is_file()]


def path_field(source: str) -> str:
    """Return how messages name the path of a source."""
    return f"sources[{source}].path"


def file_units(
    source: str, files: Iterable[tuple[str, str]], *, check: Callable[[str, Path], None] | None = None
) -> list[Unit]:
    """Return one unit a file, in their order, each with its size and sha256; ``check`` sees its name and local path."""
    units = []
    for name, location in files:
        with fetched(location, companion=COMPANION) as local:
            if check is not None:
                check(name, local)
            size = local.stat().st_size
            units.append(Unit(source, name, location, digest=file_sha256(local), size_bytes=size))
    return units


def numbered_lines(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line without its newline), streaming; only ``\\n`` ends a line.

    Raises ``DamagedFileError`` for a line of more than 64 MiB, and passes on that of ``chunks``; the lines before are yielded.
    """
    number, pending = 0, b""
    for chunk in chunks:
        *whole, pending = (pending + chunk).split(b"\n")
        for line in whole:
            number += 1
            yield number, line
        if len(pending) > _MOST_LINE_BYTES:
            raise DamagedFileError(f"after {_MOST_LINE_BYTES} bytes", "a line without end")
    if pending:
        yield number + 1, pending


def numbered_texts(chunks: Iterable[bytes], *, file: str) -> Iterator[tuple[int, str | Quarantined]]:
    """Yield (number from 1, line) in UTF-8 or Windows-1252; damage is one quarantined value at the end.

    CMS ships ICD-9-CM v32 (Ménière) in Latin-1 and FDA its products in Windows-1252, which has the same letters and typographic
    dashes and quotes; copies in UTF-8 exist. No text of theirs in one of the former is valid UTF-8.
    """
    number = 0
    try:
        for number, line in numbered_lines(chunks):
            yield number, _decode(line.removeprefix(_BOM) if number == 1 else line)
    except DamagedFileError as error:
        yield number + 1, Quarantined(file, f"line {number + 1}, {error.position}", error.reason)


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")


def read_chunks(location: Path, progress: Progress | None = None) -> Iterator[bytes]:
    """Yield the content, inflated where the file is gzip; ``progress`` is kept up to date.

    Raises ``DamagedFileError`` after the last readable byte of a truncated or broken archive; ``OSError`` passes through.
    """
    progress = progress or Progress()
    progress.size_bytes = location.stat().st_size
    with location.open("rb") as stream:
        try:
            for chunk in _content(stream):
                progress.read_bytes = stream.tell()
                yield chunk
        except DamagedFileError as error:
            if error.is_cut:
                progress.read_bytes = progress.missing_bytes = progress.size_bytes
            raise
    progress.is_whole = True


def _content(stream: IO[bytes]) -> Iterator[bytes]:
    head = stream.read(_INPUT_BYTES)
    if not head.startswith(_GZIP_MAGIC):
        while head:
            yield head
            head = stream.read(_OUTPUT_BYTES)
        return
    count = 0
    try:
        for chunk in _inflate_fast(head, iter(lambda: stream.read(_INPUT_BYTES), b"")):
            yield chunk
            count += len(chunk)
        return
    except _FastInflateError:
        # Inflated again by zlib, which can tell the last readable byte and its position.
        stream.seek(0)
    for chunk in _inflate(stream.read(_INPUT_BYTES), iter(lambda: stream.read(_INPUT_BYTES), b"")):
        done = min(count, len(chunk))
        count -= done
        if done < len(chunk):
            yield chunk[done:]


class _FastInflateError(Exception):
    """The archive is not one or more whole gzip members."""


def _inflate_fast(head: bytes, later: Iterator[bytes]) -> Iterator[bytes]:
    """Inflate by ISA-L, at more than twice the speed of zlib; anything but whole members is ``_FastInflateError``."""
    from isal import isal_zlib

    isal_error: Any = isal_zlib.error  # a class; its stub declares an instance
    data = head
    while True:
        member = isal_zlib.decompressobj(wbits=31)
        while not member.eof:
            data = data or next(later, b"")
            if not data:
                raise _FastInflateError
            try:
                chunk = member.decompress(data, _OUTPUT_BYTES)
            except isal_error:
                raise _FastInflateError from None
            if chunk:
                yield chunk
            data = member.unused_data if member.eof else member.unconsumed_tail
        data = data or next(later, b"")
        if not data:
            return
        if not data.startswith(_GZIP_MAGIC[:1]):
            raise _FastInflateError  # zero padding, or damage


def _inflate(head: bytes, later: Iterator[bytes]) -> Iterator[bytes]:
    data = head
    position = 0  # compressed bytes consumed before `data`
    member = zlib.decompressobj(wbits=31)
    while True:
        if not data:
            data = next(later, b"")
            if not data:
                raise DamagedFileError(f"byte {position}", "the gzip archive is truncated", is_cut=True)
        before = member.copy()
        try:
            chunk = member.decompress(data, _OUTPUT_BYTES)
        except zlib.error as error:
            salvaged, length = _salvage(before, data)
            if salvaged:
                yield salvaged
            raise DamagedFileError(f"byte {position + length}", f"the gzip archive is broken ({error})") from None
        if chunk:
            yield chunk
        remaining = member.unused_data if member.eof else member.unconsumed_tail
        position += len(data) - len(remaining)
        data = remaining
        if member.eof:
            # Archives may hold several members (as daily exports joined with cat do) and zero padding between and after them.
            padded = data
            data = padded.lstrip(b"\0")
            while not data:
                position += len(padded)
                padded = next(later, b"")
                if not padded:
                    return
                data = padded.lstrip(b"\0")
            position += len(padded) - len(data)
            member = zlib.decompressobj(wbits=31)


def _salvage(member: "zlib._Decompress", data: bytes) -> tuple[bytes, int]:
    """Inflate byte by byte up to the damage, which zlib reports for a whole call; return the output and the bytes consumed."""
    output = []
    for index in range(len(data)):
        try:
            output.append(member.decompress(data[index : index + 1]))
        except zlib.error:
            return b"".join(output), index
    return b"".join(output), len(data)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
