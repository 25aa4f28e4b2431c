"""Pairs of the documents of a corpus: title and abstract, sections of one note, a note and its diagnoses.

The raw files of the corpus's source are read again, and must still be those that the corpus was built from. Each document is
prepared, filtered and decontaminated as for the corpus. Near duplicates are not looked for; equal pairs are dropped later.
Versions and deletions are those of the corpus (``draw``).
"""

import re
from collections import Counter
from collections.abc import Iterator

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.corpus.decontamination import in_memory
from clinical_modernbert.corpus.documents import prepared
from clinical_modernbert.corpus.pairs.draw import Draw
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe import CorpusRecipe
from clinical_modernbert.recipe.sources import Source
from clinical_modernbert.recipe.texts import CorpusPairs
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Deleted, Document, Dropped, Quarantined, Unit, key_of
from clinical_modernbert.sources.terms.diagnoses import Diagnoses, read_diagnoses
from clinical_modernbert.sources.terms.term import Term, TermPair, TermRecord, prose_term

# A line that ends with a colon, a line in capitals, or words in capitals with a colon, also in texts that have lost their lines.
_HEADER = re.compile(
    r"^[A-Z][\w /&'(),.-]{1,60}:[ \t]*$|^[A-Z][A-Z0-9 /&'-]{2,60}$|(?<![\w/&'-])[A-Z][A-Z /&'-]{3,60}:", re.MULTILINE
)
_MIN_SECTION = 80
"""Characters of the shortest section that is paired: shorter ones ("None.") are the same in many notes."""


def corpus_source(source: CorpusPairs, corpus: Artifact) -> Source:
    """Return the source of the corpus whose documents are read."""
    found = {item.name: item for item in CorpusRecipe.model_validate(corpus.manifest.recipe).sources}
    if source.documents not in found:
        raise SourceError(
            f"sources[{source.name}].documents: {source.documents!r} is not a source of {corpus.manifest.id}; its sources are "
            f"{', '.join(found)}"
        )
    return found[source.documents]


def read_corpus_pairs(source: CorpusPairs, corpus: Artifact) -> Iterator[TermRecord]:
    """Yield the pairs of a source's documents, and one drop or quarantined record for each document without any."""
    recipe = CorpusRecipe.model_validate(corpus.manifest.recipe)
    documents = corpus_source(source, corpus)
    decontamination = in_memory(recipe.decontamination)
    diagnoses = read_diagnoses(source) if source.diagnoses_path is not None else Diagnoses({}, {})
    yield from diagnoses.damaged
    draw = Draw(source.max_pairs)
    for unit in _unchanged_units(documents, source, corpus):
        for record in read_unit(documents, unit):
            if isinstance(record, Dropped | Quarantined):
                yield record
                if isinstance(record, Dropped) and record.record is not None:
                    draw.leave_out(key_of(source.documents, record.record), record)
            elif isinstance(record, Deleted):
                yield Dropped("deletion_notice")
                draw.delete(key_of(source.documents, record.record), record)
            elif draw.takes(key := key_of(source.documents, record.record or record.id)):
                text, unfit = prepared(record, recipe, Counter(), decontamination, is_prose=documents.is_prose)
                pairs: list[TermPair | Dropped] = (
                    [Dropped(unfit)] if unfit else [*_pairs(record, text, source, diagnoses)]
                )
                yield from (pair for pair in pairs if isinstance(pair, Dropped))
                draw.add(key, record, [pair for pair in pairs if isinstance(pair, TermPair)])
            else:
                yield Dropped("not_drawn")
    yield from draw.records()


def _unchanged_units(documents: Source, source: CorpusPairs, corpus: Artifact) -> Iterator[Unit]:
    digests = {entry.name: entry.digest for entry in corpus.manifest.inputs}
    for unit in list_units(documents):
        if digests.get(f"{unit.source}/{unit.name}") != unit.digest:
            raise SourceError(
                f"sources[{source.name}]: {unit.name} is not the file that {corpus.manifest.id} was built from; build the corpus "
                "again, or bring the file back"
            )
        yield unit


def _pairs(document: Document, text: str, source: CorpusPairs, diagnoses: Diagnoses) -> Iterator[TermPair | Dropped]:
    def term(part: str) -> Term:
        return prose_term(part, document.group, max_characters=source.max_characters)

    if source.relation == "title_abstract":
        title, _, body = text.partition("\n\n")
        if not body or "\n" in title:
            yield Dropped("no_title")
        else:
            yield TermPair("title_abstract", term(title), term(body))
    elif source.relation == "sections":
        sections = note_sections(text)
        if len(sections) < 2:
            yield Dropped("few_sections")
        for first, second in zip(sections[::2], sections[1::2], strict=False):
            yield TermPair("sections", term(first), term(second))
    else:
        found = diagnoses.of(document.encounter)
        if not found:
            yield Dropped("no_diagnoses")
        for description in found:
            yield TermPair("diagnoses", term(text), description)


def note_sections(text: str) -> list[str]:
    """Return the texts under the headers of a note, those of at least 80 characters."""
    headers = [*_HEADER.finditer(text)]
    ends = [*(header.start() for header in headers[1:]), len(text)]
    sections = (text[header.end() : end].strip(" ,\t\n") for header, end in zip(headers, ends, strict=False))
    return [section for section in sections if len(section) >= _MIN_SECTION]
