"""Lines of text from plain or gzip files, with the errors that readers of evaluation sets share.

An evaluation set is small and must be whole: bad input is a ``SourceError`` with file and line, never a quarantined record.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources import files
from clinical_modernbert.sources.files import read_chunks
from clinical_modernbert.sources.inflate import DamagedFileError


def read_text(path: Path, *, keep_line_ends: bool = False) -> str:
    """Return a UTF-8 file's whole text, by default with line ends as ``\\n``; ``SourceError`` if it is damaged or not UTF-8."""
    try:
        content = b"".join(read_chunks(path)).decode("utf-8-sig")
    except DamagedFileError as error:
        raise SourceError(f"{path.name}: {error}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SourceError(f"{path.name}, line {line}: not UTF-8") from None
    return content if keep_line_ends else content.replace("\r\n", "\n")


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


def letters(text: str) -> str:
    """Return letters and digits alone, without case: an annotated text that differs in these is at another place."""
    return "".join(character for character in text.casefold() if character.isalnum())
