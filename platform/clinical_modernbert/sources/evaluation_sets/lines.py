"""Lines of text from plain or gzip files, with the errors that readers of evaluation sets share.

An evaluation set is small and must be whole: bad input is a ``SourceError`` with file and line, never a quarantined record.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources import files
from clinical_modernbert.sources.files import read_chunks
from clinical_modernbert.sources.inflate import DamagedFileError


def read_text(path: Path, *, as_it_is: bool = False) -> str:
    """Return a UTF-8 file's whole text; ``SourceError`` if it is damaged or not UTF-8.

    By default line ends are ``\\n``, and a byte order mark is left out.
    """
    try:
        content = b"".join(read_chunks(path)).decode("utf-8" if as_it_is else "utf-8-sig")
    except DamagedFileError as error:
        raise SourceError(f"{path.name}: {error}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SourceError(f"{path.name}, line {line}: not UTF-8") from None
    return content if as_it_is else content.replace("\r\n", "\n")


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end), streaming; only ``\\n`` ends a line, as in the files' own tools."""
    try:
        for number, line in files.numbered_lines(read_chunks(path)):
            yield number, _decoded(path, number, line)
    except DamagedFileError as error:
        raise SourceError(f"{path.name}: {error}") from None


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.removesuffix(b"\r").decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        refuse(path, number, "not UTF-8")


def refuse(path: Path, line: int, problem: str) -> NoReturn:
    """Raise ``SourceError`` for a line."""
    raise SourceError(f"{path.name}, line {line}: {problem}")


class Stated(NamedTuple):
    """An annotation that states its text next to where it is."""

    line: int
    """Line of the file, from 1."""
    start: int
    end: int
    actual: str
    """The document's text from ``start`` to ``end``."""
    stated: str


def num_not_as_stated(path: Path, annotations: Sequence[Stated]) -> int:
    """Return how many annotations of a document state another text, apart from spaces.

    Releases have slips, and tools state a text in another form (``TNF-a`` for the Greek letter). Where most of a document's
    annotations have other letters, its offsets mean something else, and it is refused.
    """
    elsewhere = [found for found in annotations if letters(found.actual) != letters(found.stated)]
    if 2 * len(elsewhere) > len(annotations):
        line, start, end, *_ = elsewhere[0]
        refuse(
            path,
            line,
            f"characters {start}-{end} are not the annotated text, as for {len(elsewhere)} of {len(annotations)} annotations",
        )
    return sum("".join(found.actual.split()) != "".join(found.stated.split()) for found in annotations)


def letters(text: str) -> str:
    """Return letters and digits alone, without case: an annotated text that differs in these is at another place."""
    return "".join(character for character in text.casefold() if character.isalnum())
