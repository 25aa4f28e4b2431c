"""What patients and busy clinicians write, and the codes that it means: ``lay_words.tsv``, made and checked by hand.

A line has phrases between bars, then the beginnings of ICD-10-CM codes, then those of ICD-9-CM codes. It is for search, not
for coding: codes are the usual meaning, not every possible one.
"""

from dataclasses import dataclass
from pathlib import Path

from clinical_modernbert.sources.codes.diagnoses import Table

LOCATION = Path(__file__).with_name("lay_words.tsv")
"""The file."""


@dataclass(frozen=True, slots=True)
class LayWord:
    """One phrase and the beginnings of the codes that it means, without dots."""

    phrase: str
    codes: tuple[str, ...]


def lay_words(table: Table) -> list[LayWord]:
    """Return the phrases of the file with their codes in one table, in the file's order."""
    words: list[LayWord] = []
    for line in LOCATION.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        phrases, icd10, icd9 = line.split("\t")
        codes = tuple((icd9 if table == "icd9cm" else icd10).replace(".", "").split())
        words += [LayWord(phrase, codes) for phrase in phrases.split("|")]
    return words
