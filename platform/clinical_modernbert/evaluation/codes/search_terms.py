"""What a code can be found by besides its description: headings above it, what they include, groups, and lay words.

ICD-10-CM has its tabular list. ICD-9-CM's table has codes alone: its codes take AHRQ's groups and the terms of their counterparts
in ICD-10-CM. The browser searches; this module only says which text belongs to which beginning of a code.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from clinical_modernbert.artifacts import InputEntry
from clinical_modernbert.hashing import file_sha256
from clinical_modernbert.recipe.terms import TermSource
from clinical_modernbert.sources import CodeEntry
from clinical_modernbert.sources.codes import Table
from clinical_modernbert.sources.codes.ccs import ccs_location, read_ccs
from clinical_modernbert.sources.codes.lay_words import lay_words
from clinical_modernbert.sources.codes.relations import (
    Place,
    gem_location,
    read_gem,
    read_hierarchy,
    tabular_location,
)
from clinical_modernbert.sources.terms import TermPair, read_pairs, source_files
from clinical_modernbert.sources.terms.rows import with_local_paths


def synonym_inputs(synonyms: Sequence[TermSource]) -> tuple[InputEntry, ...]:
    """Return the vocabularies' files as inputs of a map."""
    files = [(source.name, file) for source in synonyms for file in source_files(with_local_paths(source))]
    return tuple(InputEntry(name=file.name, id=name, digest=file_sha256(file)) for name, file in files)


def search_terms(table: Table, codes: Sequence[CodeEntry], synonyms: Sequence[TermSource] = ()) -> dict[str, object]:
    """Return ``texts``, ``nodes`` (beginning of a code without dot -> numbers of its texts, a heading's title first),
    ``headings`` (beginnings whose first text is a title), ``lay`` (phrase and beginnings) and ``names`` (names of one concept
    each, from ``synonyms``), as JSON."""
    places = read_hierarchy(tabular_location(None))
    headings: dict[str, str] = {}
    if table == "icd10cm":
        known = {entry.code for entry in codes}
        nodes = {
            code: [*([] if code in known else [place.description]), *place.terms] for code, place in places.items()
        }
        headings = {code: place.description for code, place in places.items() if code not in known}
    else:
        headings = category_titles(codes)
        nodes = _of_icd9(codes, places)
        for category, title in headings.items():
            nodes[category] = [title, *nodes.get(category, [])]
    numbers: dict[str, int] = {}
    coded = {
        code.replace(".", ""): [numbers.setdefault(text, len(numbers)) for text in dict.fromkeys(texts)]
        for code, texts in nodes.items()
        if texts
    }
    return {
        "texts": list(numbers),
        "nodes": coded,
        "headings": sorted(code.replace(".", "") for code in headings),
        "lay": [[word.phrase, *word.codes] for word in lay_words(table)],
        "names": _names([entry.description for entry in codes], synonyms),
    }


def _names(descriptions: Sequence[str], synonyms: Sequence[TermSource]) -> list[list[str]]:
    """Return the names of each concept of which at least one is in a description; the concepts above it are not among them."""
    concepts: dict[str, dict[str, None]] = {}
    for source in synonyms:
        for record in read_pairs(with_local_paths(source)):
            if isinstance(record, TermPair) and record.relation != "parent":
                names = concepts.setdefault(record.positive.text, {record.positive.text: None})
                names[record.anchor.text] = None
    rows: dict[str, set[int]] = {}
    for row, description in enumerate(descriptions):
        for word in _words(description):
            rows.setdefault(word, set()).add(row)
    return [
        list(names)
        for names in concepts.values()
        if len(names) > 1
        and any(set.intersection(*(rows.get(w, set()) for w in _words(name))) for name in names if _words(name))
    ]


def _words(text: str) -> set[str]:
    return {word.rstrip("s") for word in re.findall(r"[a-z]+|\d+", text.lower())}


def category_titles(codes: Iterable[CodeEntry]) -> dict[str, str]:
    """Return a name for each ICD-9-CM category of several codes: the words with which most of its descriptions begin, or end.

    CMS's table has no names of categories. Categories whose codes share no such words stay without a name.
    """
    members: dict[str, list[list[str]]] = {}
    for entry in codes:
        members.setdefault(entry.code.partition(".")[0], []).append(entry.description.split())
    titles: dict[str, str] = {}
    for category, texts in members.items():
        if len(texts) < 2:
            continue
        words = _common(texts) or _common([text[::-1] for text in texts])[::-1]
        while words and words[-1].lower().strip(",") in _LINKS:
            words.pop()
        title = " ".join(words).strip(",; ")
        if len(title) > 3:
            titles[category] = title[0].upper() + title[1:]
    return titles


_LINKS = frozenset(
    {
        "of",
        "with",
        "without",
        "and",
        "or",
        "in",
        "to",
        "the",
        "due",
        "by",
        "from",
        "other",
        "unspecified",
        "for",
        "on",
        "at",
    }
)
_MOST_OF = 0.6


def _common(texts: Sequence[Sequence[str]]) -> list[str]:
    """Return the words with which at least ``_MOST_OF`` of the texts begin."""
    words: list[str] = []
    kept = list(texts)
    while True:
        number = len(words)
        counts = Counter(text[number].lower().strip(",") for text in kept if len(text) > number)
        word, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
        if count < _MOST_OF * len(texts):
            return words
        kept = [text for text in kept if len(text) > number and text[number].lower().strip(",") == word]
        words.append(kept[0][number])


def _of_icd9(codes: Sequence[CodeEntry], places: Mapping[str, Place]) -> dict[str, list[str]]:
    groups = read_ccs(ccs_location())
    nodes: dict[str, list[str]] = {entry.code: [groups[entry.code]] for entry in codes if entry.code in groups}
    for mapping in read_gem(gem_location()):
        if not mapping.combination and mapping.icd9 in nodes:
            nodes[mapping.icd9] += _with_headings(mapping.icd10, places)
    return nodes


def _with_headings(code: str, places: Mapping[str, Place]) -> list[str]:
    texts: list[str] = []
    while code and code not in places:
        code = code[:-1].removesuffix(".")
    above: str | None = code or None
    while above is not None:
        place = places[above]
        texts += [place.description, *place.terms]
        above = place.parent
    return texts
