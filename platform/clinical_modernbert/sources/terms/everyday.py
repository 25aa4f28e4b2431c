"""Pairs of the platform's own list of everyday words and abbreviations, and descriptions of the codes that they mean.

A phrase means all codes with one beginning ("heart attack" I21, 410), of which there may be hundreds. It is paired with the
shortest descriptions of them, which say least besides what the phrase says, in both code systems. The list names the usual
beginning first, so it gives more pairs than the others.
"""

from collections.abc import Iterator
from pathlib import Path

from clinical_modernbert.recipe.terms import LayWordTerms
from clinical_modernbert.sources.codes.diagnoses import Table, code_table, table_location
from clinical_modernbert.sources.codes.lay_words import LOCATION, lay_words
from clinical_modernbert.sources.codes.relations import read_hierarchy, tabular_location
from clinical_modernbert.sources.codes.rows import icd9_dotted, icd10_dotted
from clinical_modernbert.sources.terms.term import TermPair, TermRecord, code_term

_OF_USUAL, _OF_OTHER = 3, 1
"""Descriptions of the first and of each other beginning that a phrase is paired with."""


def lay_word_files(source: LayWordTerms) -> list[Path]:
    """Return the list of words, the ICD-9-CM list and the tabular list of ICD-10-CM."""
    return [LOCATION, table_location("icd9cm", source.icd9_path), tabular_location(source.tabular_path)]


def read_lay_words(source: LayWordTerms) -> Iterator[TermRecord]:
    """Yield the description of a code and a phrase that means it, which is the more general one."""
    places = read_hierarchy(tabular_location(source.tabular_path))
    yield from _pairs("icd10cm", {code: place.description for code, place in places.items()})
    yield from _pairs("icd9cm", {entry.code: entry.description for entry in code_table("icd9cm", source.icd9_path)})


def _pairs(table: Table, descriptions: dict[str, str]) -> Iterator[TermRecord]:
    dotted = icd9_dotted if table == "icd9cm" else icd10_dotted
    by_length = sorted(descriptions, key=lambda code: (len(descriptions[code]), code))
    plain = {code: code.replace(".", "") for code in by_length}
    for word in lay_words(table):
        for place, beginning in enumerate(word.codes):
            phrase = code_term(word.phrase, table, dotted(beginning))
            meant = [code for code in by_length if plain[code].startswith(beginning)]
            for code in meant[: _OF_OTHER if place else _OF_USUAL]:
                yield TermPair("layperson", code_term(descriptions[code], table, code), phrase)
