"""Named entities: CoNLL/IOB token files, PubTator, and brat's standoff files (a folder, or a tar archive of one)."""

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.evaluation_sets.lines import letters, numbered_lines, read_text, refuse

_TAG = re.compile(r"O|[BIESUL](?:-\S+)?")
# IOBES and BIOUL name the last word and the only word of an entity; IOB2 says the same without.
_IOB2 = {"E": "I", "L": "I", "S": "B", "U": "B"}
# What begins a document, and what may name it: CoNLL, CoNLL-U's comment, GENIA.
_DOCUMENT = re.compile(
    r"-DOCSTART-[^\t(]*(?:\(([^)]*)\))?.*|#\s*(?:new)?doc_?\s*id\s*[=:]\s*(.*)|###MEDLINE:\s*(\S*)\s*"
)
_TITLE = re.compile(r"([\w.:-]+)\|([ta])\|(.*)")


@dataclass(frozen=True, slots=True)
class TaggedSentence:
    """Tokens with one IOB2 tag each."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    document: str | None = None
    """The document that the file names, or the number of the document that it begins; None if it does neither."""


@dataclass(frozen=True, slots=True)
class Span:
    """An entity in the text of its document."""

    start: int
    """First character, from 0."""
    end: int
    """The character after the last one."""
    kind: str


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation of two entities of one document."""

    kind: str
    first: str
    """What the file calls it: a concept id in PubTator, a mention in ChemProt."""
    second: str


@dataclass(frozen=True, slots=True)
class AnnotatedText:
    """A document with its entities; ``text[start:end]`` is what was annotated."""

    id: str
    text: str
    spans: tuple[Span, ...]
    num_not_as_stated: int = 0
    """Spans whose stated text differs from the text at their offsets."""
    num_left_out: int = 0
    """Annotations that are not entities of the set's task."""
    num_in_pieces: int = 0
    """Entities in several pieces, each of which is a span."""
    names: tuple[tuple[str, ...], ...] = ()
    """What relations call each span: its concept ids in PubTator; empty where relations are not read."""
    relations: tuple[Relation, ...] = ()


def read_conll(path: Path) -> Iterator[TaggedSentence]:
    """Yield the sentences of a file of ``token<TAB>tag`` lines; columns between the two are skipped.

    Tags may be IOB2, IOB1, IOBES or BIOUL and become IOB; one without a type gets the type ``entity``. A line ``-DOCSTART-``,
    ``# doc_id = <id>`` or ``###MEDLINE:<id>`` begins a document.
    """
    tokens, tags = [], []  # type: list[str], list[str]
    document, num_documents = None, 0
    for number, line in [*numbered_lines(path), (0, "")]:
        columns = line.split("\t") if "\t" in line else line.split()
        is_token = len(columns) > 1 and bool(columns[0]) and _TAG.fullmatch(columns[-1]) and columns[0] != "-DOCSTART-"
        begins = None if is_token else _DOCUMENT.fullmatch(line.strip())
        if is_token:
            tokens.append(columns[0])
            tags.append(_iob(columns[-1]))
        elif begins or not line.strip():
            if tokens:
                yield TaggedSentence(tuple(tokens), tuple(tags), document)
            tokens, tags = [], []
        else:
            refuse(path, number, "expected token<TAB>tag with a tag O, B-<type> or I-<type> (IOB, IOBES or BIOUL)")
        if begins:
            num_documents += 1
            document = next((name.strip() for name in begins.groups() if name and name.strip()), f"#{num_documents}")


def _iob(tag: str) -> str:
    prefix, _, kind = tag.partition("-")
    return tag if prefix == "O" else f"{_IOB2.get(prefix, prefix)}-{kind or 'entity'}"


def read_pubtator(path: Path) -> Iterator[AnnotatedText]:
    """Yield documents with concept ids and relations. Offsets count over the title, one space, and the abstract.

    An annotation is ``id, start, end, text, type, concept`` (BC5CDR joins several concepts by ``|``, BioRED by ``,``), a relation
    ``id, kind, concept, concept``, to which BioRED adds whether it is new.
    """
    parts: dict[str, str] = {}
    pmid, spans, names, relations = "", [], [], []  # type: str, list[Span], list[tuple[str, ...]], list[Relation]
    for number, line in [*numbered_lines(path), (0, "")]:
        match = _TITLE.fullmatch(line)
        if match:
            if pmid and match[1] != pmid:
                refuse(path, number, f"document {match[1]} begins before {pmid} has ended with an empty line")
            pmid, parts[match[2]] = match[1], match[3]
        elif line.strip():
            columns = line.split("\t")
            if not pmid or columns[0] != pmid:
                refuse(path, number, "expected an annotation of the document above")
            if len(columns) >= 5 and columns[1].isdecimal() and columns[2].isdecimal():
                start, end = int(columns[1]), int(columns[2])
                if _joined(parts)[start:end].strip() != columns[3].strip():
                    refuse(path, number, f"characters {start}-{end} are not the annotated text")
                spans.append(Span(start, end, columns[4]))
                names.append(concepts(columns[5] if len(columns) > 5 else ""))
            elif len(columns) < 4 or columns[1].isdecimal():
                # BC5CDR's relations have four columns, BioRED's five.
                refuse(path, number, "expected id, start, end, text, type, or a relation: id, kind and its two ends")
            else:
                relations.append(Relation(columns[1], columns[2].strip(), columns[3].strip()))
        elif pmid:
            yield AnnotatedText(pmid, _joined(parts), tuple(spans), names=tuple(names), relations=tuple(relations))
            parts, pmid, spans, names, relations = {}, "", [], [], []


def concepts(column: str) -> tuple[str, ...]:
    """Return the concept ids of a mention; ``-1`` and ``-`` are those of a mention without concept."""
    found = (name.strip() for name in re.split(r"[|,;]", column))
    return tuple(dict.fromkeys(name for name in found if name not in ("", "-", "-1")))


def _joined(parts: dict[str, str]) -> str:
    return f"{parts.get('t', '')} {parts.get('a', '')}"


def read_brat(path: Path) -> Iterator[AnnotatedText]:
    """Yield the documents of a folder (or tar archive) of ``<id>.txt`` and ``<id>.ann``; only text-bound lines (T) are taken.

    An entity in several pieces gives a span for each piece. Line ends of two characters count as one in some tools and as two in
    others: the reading that agrees with the stated texts is taken. Spans that do not agree are counted; a document where most do
    not is refused.
    """
    for name, text, annotations in _archive_pairs(path) if path.is_file() else _folder_pairs(path):
        lines = list(_text_bound(name, annotations))
        plain = text.replace("\r\n", "\n")
        wrong = _not_as_stated(plain, lines)
        if "\r\n" in text and len(_not_as_stated(text, lines)) < len(wrong):
            lines = [
                replace(line, pieces=tuple(_plain_offsets(text, piece) for piece in line.pieces)) for line in lines
            ]
            wrong = _not_as_stated(plain, lines)
        for line in lines:
            if not all(0 <= start < end <= len(plain) for start, end in line.pieces):
                raise SourceError(f"{name}.ann, line {line.number}: the span is outside of the text")
        # A comma too many is an annotator's slip; other letters are another place of the text.
        elsewhere = [line for line in wrong if letters(_actual(plain, line)) != letters(line.stated)]
        if 2 * len(elsewhere) > len(lines):
            raise SourceError(
                f"{name}.ann, line {elsewhere[0].number}: the span is not the stated text, as for {len(elsewhere)} of "
                f"{len(lines)} entities"
            )
        yield AnnotatedText(
            name.rpartition("/")[2],
            plain,
            tuple(Span(start, end, line.kind) for line in lines for start, end in line.pieces),
            len(wrong),
            num_in_pieces=sum(len(line.pieces) > 1 for line in lines),
        )


@dataclass(frozen=True, slots=True)
class _TextBound:
    """A text-bound annotation of brat."""

    number: int
    """Line of the file."""
    kind: str
    pieces: tuple[tuple[int, int], ...]
    stated: str


def _text_bound(name: str, annotations: str) -> Iterator[_TextBound]:
    for number, line in enumerate(annotations.split("\n"), start=1):
        if not line.startswith("T"):
            continue
        try:
            _, middle, stated = line.split("\t", 2)
            kind, offsets = middle.split(" ", 1)
            pieces = tuple((int(start), int(end)) for start, end in (piece.split() for piece in offsets.split(";")))
        except ValueError:
            raise SourceError(f"{name}.ann, line {number}: expected T<n><TAB>type start end<TAB>text") from None
        yield _TextBound(number, kind, pieces, stated)


def _not_as_stated(text: str, lines: Sequence[_TextBound]) -> list[_TextBound]:
    return [line for line in lines if "".join(_actual(text, line).split()) != "".join(line.stated.split())]


def _actual(text: str, line: _TextBound) -> str:
    return "".join(text[start:end] for start, end in line.pieces)


def _plain_offsets(text: str, piece: tuple[int, int]) -> tuple[int, int]:
    """Return offsets that count a line end as one character, from those that count it as two."""
    start, end = (offset - text.count("\r\n", 0, offset) for offset in piece)
    return start, end


def _folder_pairs(folder: Path) -> Iterator[tuple[str, str, str]]:
    for path in sorted(folder.rglob("*.ann")):
        text = path.with_suffix(".txt")
        if not text.is_file():
            raise SourceError(f"{path.name}: {text.name} is missing next to it")
        yield path.stem, read_text(text, keep_line_ends=True), read_text(path)


def _archive_pairs(path: Path) -> Iterator[tuple[str, str, str]]:
    texts: dict[str, str] = {}
    try:
        # One pass: going back in a compressed archive would inflate it anew for every member.
        with tarfile.open(path) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.name.endswith((".ann", ".txt")) else None
                if stream is not None:
                    texts[member.name] = stream.read().decode("utf-8-sig")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SourceError(f"{path.name}: no readable tar archive ({type(error).__name__})") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path.name}, {member.name}: byte {error.start} is not UTF-8") from None
    for name in sorted(texts):
        stem = name.removesuffix(".ann")
        if name.endswith(".ann"):
            if f"{stem}.txt" not in texts:
                raise SourceError(f"{path.name}: {stem}.txt is missing next to {name}")
            yield stem, texts[f"{stem}.txt"], texts[name].replace("\r\n", "\n")
