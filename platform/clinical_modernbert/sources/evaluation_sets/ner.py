"""Named entities: CoNLL/IOB token files, PubTator, and brat's standoff files (a folder, or a tar archive of one)."""

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.evaluation_sets.lines import (
    Stated,
    letters,
    num_not_as_stated,
    numbered_lines,
    read_text,
    refuse,
)

_TAG = re.compile(r"O|[BIMESULW](?:-\S+)?")
# IOBES, BIOUL, BMES and BMEWO name the last word, the only word or the middle of an entity; IOB2 says the same without.
_IOB2 = {"M": "I", "E": "I", "L": "I", "S": "B", "U": "B", "W": "B"}
# What begins a document, and what may name it: CoNLL, CoNLL-U's comment, GENIA.
_DOCUMENT = re.compile(
    r"-DOCSTART-[^\t(]*(?:\(([^)]*)\))?.*|#\s*(?:new)?doc_?\s*id\s*[=:]\s*(.*)|#\s*newdoc|###MEDLINE:\s*(\S*)\s*"
)
# CoNLL-U says more about a sentence in such lines: # sent_id = 3, # text = ..., # newpar.
_COMMENT = re.compile(r"#\s*(?:[\w:.-]+\s*=[^\t]*|newpar)")
_BOM = "\ufeff"
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

    Tags may be IOB2, IOB1, IOBES, BIOUL, BMES or BMEWO and become IOB; one without a type gets the type ``entity``. A line
    ``-DOCSTART-``, ``# doc_id = <id>``, ``# newdoc`` or ``###MEDLINE:<id>`` begins a document; comments of CoNLL-U are skipped.
    """
    tokens, tags = [], []  # type: list[str], list[str]
    document, num_documents = None, 0
    for number, line in [*numbered_lines(path), (0, "")]:
        columns, begins, is_comment = _token(line), _DOCUMENT.fullmatch(line.strip()), _COMMENT.fullmatch(line.strip())
        if columns:
            tokens.append(columns[0])
            tags.append(_iob(columns[-1]))
        elif is_comment and not begins:
            continue
        elif begins or not line.strip():
            if tokens:
                yield TaggedSentence(tuple(tokens), tuple(tags), document)
            tokens, tags = [], []
        else:
            refuse(
                path, number, "expected token<TAB>tag with a tag O, B-<type> or I-<type> (IOB, IOBES, BIOUL or BMES)"
            )
        if begins and not columns:
            num_documents += 1
            document = next((name.strip() for name in begins.groups() if name and name.strip()), f"#{num_documents}")


def is_conll(line: str) -> bool:
    """Whether a file that begins with this line is one that ``read_conll`` reads."""
    line = line.strip()
    return bool(_token(line)) or any(form.fullmatch(line) for form in (_DOCUMENT, _COMMENT))


def _token(line: str) -> list[str]:
    """Return the columns of a token's line, and none of any other line."""
    columns = line.split("\t") if "\t" in line else line.split()
    # The text of a comment may end like a token's line: # text = Sources of vitamin B
    if len(columns) < 2 or not columns[0] or columns[0] == "-DOCSTART-" or _COMMENT.fullmatch(line.strip()):
        return []
    return columns if _TAG.fullmatch(columns[-1]) else []


def _iob(tag: str) -> str:
    prefix, _, kind = tag.partition("-")
    return tag if prefix == "O" else f"{_IOB2.get(prefix, prefix)}-{kind or 'entity'}"


def read_pubtator(path: Path) -> Iterator[AnnotatedText]:
    """Yield documents with concept ids and relations. Offsets count over the title, one space, and the abstract.

    Annotations whose text is not as stated are counted; a document where most are at another place is refused.

    An annotation is ``id, start, end, text, type, concept`` (BC5CDR joins several concepts by ``|``, BioRED by ``,``), a relation
    ``id, kind, concept, concept``, to which BioRED adds whether it is new.
    """
    parts: dict[str, str] = {}
    pmid, spans, names, relations = "", [], [], []  # type: str, list[Span], list[tuple[str, ...]], list[Relation]
    stated: list[Stated] = []
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
                text = _joined(parts)
                if not start <= end <= len(text):
                    refuse(path, number, f"characters {start}-{end} are outside of the document's {len(text)}")
                stated.append(Stated(number, start, end, text[start:end], columns[3]))
                spans.append(Span(start, end, columns[4]))
                names.append(concepts(columns[5] if len(columns) > 5 else ""))
            elif len(columns) < 4 or columns[1].isdecimal():
                # BC5CDR's relations have four columns, BioRED's five.
                refuse(path, number, "expected id, start, end, text, type, or a relation: id, kind and its two ends")
            else:
                relations.append(Relation(columns[1], columns[2].strip(), columns[3].strip()))
        elif pmid:
            yield AnnotatedText(
                pmid,
                _joined(parts),
                tuple(spans),
                num_not_as_stated(path, stated),
                names=tuple(names),
                relations=tuple(relations),
            )
            parts, pmid, spans, names, relations, stated = {}, "", [], [], [], []


def concepts(column: str) -> tuple[str, ...]:
    """Return the concept ids of a mention; ``-1`` and ``-`` are those of a mention without concept."""
    found = (name.strip() for name in re.split(r"[|,;]", column))
    return tuple(dict.fromkeys(name for name in found if name not in ("", "-", "-1")))


def _joined(parts: dict[str, str]) -> str:
    return f"{parts.get('t', '')} {parts.get('a', '')}"


def read_brat(path: Path) -> Iterator[AnnotatedText]:
    """Yield the documents of a folder (or tar archive) of ``<id>.txt`` and ``<id>.ann``; only text-bound lines (T) are taken.

    An entity in several pieces gives a span for each piece. Line ends of two characters count as one in some tools and as two in
    others, and a byte order mark as none or one: the reading that agrees best with the stated texts is taken. Spans that do not
    agree are counted; a document where most do not is refused.
    """
    for name, text, annotations in _archive_pairs(path) if path.is_file() else _folder_pairs(path):
        lines = list(_text_bound(name, annotations))
        plain = _plain(text)
        readings = (plain, text.removeprefix(_BOM), text.replace("\r\n", "\n"), text)
        counted = min(dict.fromkeys(readings), key=lambda reading: len(_not_as_stated(reading, lines)))
        if counted != plain:
            lines = [
                replace(line, pieces=tuple(_plain_offsets(counted, piece) for piece in line.pieces)) for line in lines
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


def _plain(text: str) -> str:
    """Return the text without a byte order mark, and with line ends of one character."""
    return text.removeprefix(_BOM).replace("\r\n", "\n")


def _plain_offsets(counted: str, piece: tuple[int, int]) -> tuple[int, int]:
    """Return offsets in the plain text, from those that count over ``counted``, and stay outside of it if they are."""
    start, end = (len(_plain(counted[:offset])) + max(offset - len(counted), 0) for offset in piece)
    return start, end


def _folder_pairs(folder: Path) -> Iterator[tuple[str, str, str]]:
    for path in sorted(folder.rglob("*.ann")):
        text = path.with_suffix(".txt")
        if not text.is_file():
            raise SourceError(f"{path.name}: {text.name} is missing next to it")
        yield path.stem, read_text(text, as_it_is=True), read_text(path)


def _archive_pairs(path: Path) -> Iterator[tuple[str, str, str]]:
    texts: dict[str, str] = {}
    try:
        # One pass: going back in a compressed archive would inflate it anew for every member.
        with tarfile.open(path) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.name.endswith((".ann", ".txt")) else None
                if stream is not None:
                    texts[member.name] = stream.read().decode("utf-8")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SourceError(f"{path.name}: no readable tar archive ({type(error).__name__})") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path.name}, {member.name}: byte {error.start} is not UTF-8") from None
    for name in sorted(texts):
        stem = name.removesuffix(".ann")
        if name.endswith(".ann"):
            if f"{stem}.txt" not in texts:
                raise SourceError(f"{path.name}: {stem}.txt is missing next to {name}")
            yield stem, texts[f"{stem}.txt"], _plain(texts[name])
