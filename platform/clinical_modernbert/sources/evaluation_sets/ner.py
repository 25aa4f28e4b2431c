"""Named entities: CoNLL/IOB token files, PubTator, and brat's standoff files (a folder, or a tar archive of one)."""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.evaluation_sets.lines import numbered_lines, read_text, refuse

_TAG = re.compile(r"O|[BI]-\S+|[BI]")
_TITLE = re.compile(r"(\d+)\|([ta])\|(.*)")


@dataclass(frozen=True, slots=True)
class TaggedSentence:
    """Tokens with one IOB2 tag each."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """An entity in the text of its document."""

    start: int
    """First character, from 0."""
    end: int
    """The character after the last one."""
    kind: str


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


def read_conll(path: Path) -> Iterator[TaggedSentence]:
    """Yield the sentences of a file of ``token<TAB>tag`` lines; columns between the two are skipped, ``-DOCSTART-`` too."""
    tokens, tags = [], []  # type: list[str], list[str]
    for number, line in numbered_lines(path):
        columns = line.split("\t") if "\t" in line else line.split()
        if not line.strip() or columns[0] == "-DOCSTART-":
            if tokens:
                yield TaggedSentence(tuple(tokens), tuple(tags))
            tokens, tags = [], []
        elif len(columns) < 2 or not columns[0] or not _TAG.fullmatch(columns[-1]):
            refuse(path, number, "expected token<TAB>tag with a tag O, B-<type> or I-<type>")
        else:
            tokens.append(columns[0])
            tags.append(columns[-1])
    if tokens:
        yield TaggedSentence(tuple(tokens), tuple(tags))


def read_pubtator(path: Path) -> Iterator[AnnotatedText]:
    """Yield documents; the text is the title, one space, and the abstract, over which PubTator counts. Relations are skipped."""
    parts: dict[str, str] = {}
    pmid, spans = "", []  # type: str, list[Span]
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
            elif len(columns) != 4:
                refuse(path, number, "expected PMID, start, end, text, type, or a relation of four columns")
        elif pmid:
            yield AnnotatedText(pmid, _joined(parts), tuple(spans))
            parts, pmid, spans = {}, "", []


def _joined(parts: dict[str, str]) -> str:
    return f"{parts.get('t', '')} {parts.get('a', '')}"


def read_brat(path: Path) -> Iterator[AnnotatedText]:
    """Yield the documents of a folder (or tar archive) of ``<id>.txt`` and ``<id>.ann``; only text-bound lines (T) are taken.

    An entity in several pieces gives a span for each piece. Spans whose line states another text are counted.
    """
    for name, text, annotations in _archive_pairs(path) if path.is_file() else _folder_pairs(path):
        spans, wrong, torn = [], 0, 0
        for number, line in enumerate(annotations.split("\n"), start=1):
            if not line.startswith("T"):
                continue
            try:
                _, middle, stated = line.split("\t", 2)
                kind, offsets = middle.split(" ", 1)
                pieces = [tuple(map(int, piece.split())) for piece in offsets.split(";")]
                spans += [Span(start, end, kind) for start, end in pieces]
            except ValueError:
                raise SourceError(f"{name}.ann, line {number}: expected T<n><TAB>type start end<TAB>text") from None
            if not all(0 <= start < end <= len(text) for start, end in pieces):
                raise SourceError(f"{name}.ann, line {number}: the span is outside of the text")
            actual = "".join(text[start:end] for start, end in pieces)
            wrong += "".join(actual.split()) != "".join(stated.split())
            torn += len(pieces) > 1
        yield AnnotatedText(name.rpartition("/")[2], text, tuple(spans), wrong, num_in_pieces=torn)


def _folder_pairs(folder: Path) -> Iterator[tuple[str, str, str]]:
    for path in sorted(folder.rglob("*.ann")):
        text = path.with_suffix(".txt")
        if not text.is_file():
            raise SourceError(f"{path.name}: {text.name} is missing next to it")
        yield path.stem, read_text(text), read_text(path)


def _archive_pairs(path: Path) -> Iterator[tuple[str, str, str]]:
    texts: dict[str, str] = {}
    try:
        # One pass: going back in a compressed archive would inflate it anew for every member.
        with tarfile.open(path) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.name.endswith((".ann", ".txt")) else None
                if stream is not None:
                    texts[member.name] = stream.read().decode("utf-8-sig").replace("\r\n", "\n")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SourceError(f"{path.name}: no readable tar archive ({type(error).__name__})") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path.name}, {member.name}: byte {error.start} is not UTF-8") from None
    for name in sorted(texts):
        stem = name.removesuffix(".ann")
        if name.endswith(".ann"):
            if f"{stem}.txt" not in texts:
                raise SourceError(f"{path.name}: {stem}.txt is missing next to {name}")
            yield stem, texts[f"{stem}.txt"], texts[name]
