"""A made-up source type: its recipe class and its module, all that a new source needs besides its line in ``sources.MODULES``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from clinical_modernbert.recipe.sources import SourceSection
from clinical_modernbert.sources.document import Document, Record, Unit
from clinical_modernbert.sources.files import Progress, file_units, find_files, path_field


class LetterSource(SourceSection):
    """Letters in text files."""

    type: Literal["letters"] = "letters"
    path: str
    """Folder with the ``.letter`` files."""


def units(source: LetterSource) -> list[Unit]:
    """Return the files."""
    return file_units(source.name, find_files(source.path, field=path_field(source.name), patterns=("*.letter",)))


def read(source: LetterSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield the letter."""
    yield Document(unit.name, source.name, f"letter:{unit.name}", Path(unit.location).read_text())


def licence(source: LetterSource) -> str:
    """Return a licence."""
    return "CC0"
