"""PubMed citations from NLM's XML: the current ``PubmedArticleSet`` and the 2016 ``MedlineCitationSet``.

The text is the title, an empty line, then the abstract with one labelled section a line. Inline markup and MathML stay as
text; truncation notices and copyright lines are left out. Records are read one by one and freed, so memory is flat. Versions,
file order and deletions are values of the records: which version of a PMID stays is decided later, over all files.
"""

import re
from collections.abc import Iterable, Iterator
from functools import partial

from clinical_modernbert.artifacts.remote_files import is_remote, open_location, read_small
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import PubMedSource
from clinical_modernbert.sources.document import Deleted, Document, Dropped, Quarantined, Record, Unit
from clinical_modernbert.sources.files import (
    Progress,
    content_sums,
    file_units,
    find_files,
    path_field,
    read_chunks,
    size_of,
    sums_of,
)
from clinical_modernbert.sources.pubmed.scan import Damage, Deletion, scan_records
from clinical_modernbert.sources.pubmed.xml import Citation, Sections

_PATTERNS = ("*.xml", "*.xml.gz")

_NLM_NAME = re.compile(r"(?:pubmed|medline)(\d\d)n(\d{4,6})\.xml(?:\.gz)?")
_FIRST_YEAR = 1990
_MOST_COMPANION_BYTES = 4096
_MD5 = re.compile(rb"(?<![0-9a-fA-F])[0-9a-fA-F]{32}(?![0-9a-fA-F])")
_TRUNCATED = re.compile(r" ?\(ABSTRACT TRUNCATED(?: AT \d+ WORDS)?\)")
_NO_TITLE = "[Not Available]."
_NO_LABEL = "UNLABELLED"
_PLAIN_LANGUAGE = "plain-language-summary"


def units(source: PubMedSource) -> list[Unit]:
    """Return the files in NLM's order, since a later file replaces and deletes what an earlier one brought."""
    files = sort_files(find_files(source.path, field=path_field(source.name), patterns=_PATTERNS))
    return file_units(source.name, files, check=partial(_check_checksum, source))


def read(source: PubMedSource, unit: Unit, progress: Progress) -> Iterator[Record]:
    """Yield one value for each record of a file; a file that differs from its checksum is quarantined as a whole."""
    # Where a local file differs, the build ended before, unless it is to be quarantined.
    if source.checksum_mismatch == "quarantine" or is_remote(unit.location):
        problem = checksum_problem(unit.location, etag=unit.version)
        if problem and source.checksum_mismatch == "fail":
            raise _differs(unit.name, problem)
        if problem:
            with open_location(unit.location) as stream:
                progress.size_bytes = size_of(stream)
            yield Quarantined(unit.name, "the whole file", problem)
            return
    yield from read_citations(read_chunks(unit.location, progress), file=unit.name, source=source)


def licence(source: PubMedSource) -> str:
    """Return NLM's terms."""
    return "NLM's terms for PubMed data; abstracts may be under their publishers' copyright"


def file_order(name: str) -> int:
    """Return the place of a file in NLM's order: year and number of ``pubmed26n0001.xml.gz``; 0 for any other name.

    Numbers continue from the baseline to the update files; the baseline of a new year restates everything.
    """
    match = _NLM_NAME.fullmatch(name.rpartition("/")[2])
    if match is None:
        return 0
    century = 1900 if int(match[1]) >= _FIRST_YEAR % 100 else 2000
    return (century + int(match[1])) * 1_000_000 + int(match[2])


def sort_files(files: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return files in NLM's order, those with other names first."""
    return sorted(files, key=lambda file: (file_order(file[0]), file[0]))


def checksum_problem(location: str, *, etag: str = "") -> str | None:
    """Return how a file differs from its companion ``<file>.md5``; None where the sum is the same or there is no companion.

    S3 gives the sum as the ETag of most objects. Another ETag may be of an upload in parts, or of an encrypted object: then the
    file is read for its sum.
    """
    companion = f"{location}.md5"
    name = re.split(r"[/\\]", companion)[-1]
    content = read_small(companion)
    if content is None:
        return None
    stated = _MD5.search(content[:_MOST_COMPANION_BYTES])
    if stated is None:
        return f"{name} holds no MD5 sum"
    wanted = stated[0].decode().lower()
    if wanted != etag and wanted != (actual := _md5(location)):
        return f"the MD5 sum is {actual}, {name} says {wanted}"
    return None


def _md5(location: str) -> str | None:
    if not is_remote(location):
        return content_sums(location, with_md5=True).md5
    with open_location(location) as stream:
        return sums_of(stream, with_md5=True).md5


def _check_checksum(source: PubMedSource, name: str, location: str) -> None:
    """Check a local file before the build begins; one in S3 is checked by its task."""
    problem = checksum_problem(location) if source.checksum_mismatch == "fail" and not is_remote(location) else None
    if problem:
        raise _differs(name, problem)


def _differs(name: str, problem: str) -> SourceError:
    return SourceError(f"{name}: {problem}; fetch the file again, or set checksum_mismatch: quarantine")


def read_citations(
    chunks: Iterable[bytes], *, file: str, source: PubMedSource
) -> Iterator[Document | Deleted | Dropped | Quarantined]:
    """Yield one value for each citation, book chapter, deleted PMID, and other abstract that the source takes.

    The id is the PMID (``<PMID>:<language>`` for another abstract), the group ``pmid:<PMID>``. A broken file gives its citations
    up to the damage, and one quarantined record for all that follows.
    """
    order = file_order(file)
    for record in scan_records(chunks):
        match record:
            case Damage(position, reason, unread_bytes, is_cut):
                yield Quarantined(file, position, reason, unread_bytes=unread_bytes, is_cut=is_cut)
            case Deletion(pmid, version):
                yield Deleted(pmid, order, version)
            case Citation():
                yield _main_document(record, source, order)
                if source.other_languages and record.others:
                    yield from _other_documents(record, source, order)


def _main_document(citation: Citation, source: PubMedSource, order: int) -> Document | Dropped:
    if source.languages is not None and not set(citation.languages) & set(source.languages):
        return Dropped("language", citation.pmid, citation.version, order)
    title = "" if citation.title == _NO_TITLE else citation.title
    body = _body(citation.sections) or _body(_english_sections(citation))
    if not body:
        if source.title_only == "drop" or not title:
            return Dropped("no_abstract", citation.pmid, citation.version, order)
        body, title = title, ""
    text = f"{title}\n\n{body}" if title else body
    pmid = citation.pmid
    return Document(pmid, source.name, f"pmid:{pmid}", text, citation.version, order, record=pmid)


def _english_sections(citation: Citation) -> Sections:
    """Return the English abstract of a citation that has none of its own: NLM's partners wrote some, for its title."""
    for other in citation.others:
        if other.language == "eng" and other.kind != _PLAIN_LANGUAGE:
            return other.sections
    return ()


def _other_documents(citation: Citation, source: PubMedSource, order: int) -> Iterator[Document]:
    seen: dict[str, int] = {}
    for other in citation.others:
        body = _body(other.sections)
        if other.language not in source.other_languages or not body:
            continue
        if not citation.sections and other.sections == _english_sections(citation):
            continue  # it is the main document's
        seen[other.language] = seen.get(other.language, 0) + 1
        number = f":{seen[other.language]}" if seen[other.language] > 1 else ""
        # The title is English. The vernacular title is in the article's language, and belongs to no abstract in another one.
        title = citation.vernacular_title if citation.languages[:1] == (other.language,) else ""
        if other.language == "eng" and citation.title != _NO_TITLE:
            title = citation.title
        yield Document(
            f"{citation.pmid}:{other.language}{number}",
            source.name,
            f"pmid:{citation.pmid}",
            f"{title}\n\n{body}" if title else body,
            citation.version,
            order,
            record=citation.pmid,
        )


def _body(sections: Sections) -> str:
    lines = []
    for label, text in sections:
        if "TRUNCATED" in text:  # a plain search first: the expression alone would double the time of a record
            text = _TRUNCATED.sub("", text)  # noqa: PLW2901
        if text:
            lines.append(f"{label}: {text}" if label and label != _NO_LABEL else text)
    return "\n".join(lines)
