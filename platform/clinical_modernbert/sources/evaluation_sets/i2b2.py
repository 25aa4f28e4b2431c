"""The i2b2 challenges' notes (n2c2 portal, credentialed): 2006 and 2014 de-identification, 2010 concepts, 2012 temporal
relations.

Layouts as the public loaders have them; no i2b2 text ships with the platform, the tests' notes are made up.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.evaluation_sets.lines import (
    Stated,
    num_not_as_stated,
    numbered_lines,
    read_text,
    refuse,
)
from clinical_modernbert.sources.evaluation_sets.ner import AnnotatedText, Span, TaggedSentence

_CDATA = re.compile(rb"(<!\[CDATA\[.*?\]\]>)", re.DOTALL)
_BARE_AMPERSAND = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);)")
_BARE_BRACKET = re.compile(rb"<(?![A-Za-z/!?])")
_logger = logging.getLogger(__name__)
_CONCEPT = re.compile(r'c="(.*)" (\d+):(\d+) (\d+):(\d+)\|\|t="(\w+)"')


def read_2006(path: Path) -> Iterator[AnnotatedText]:
    """Yield the records of a ``deid_surrogate_*.xml``: ROOT > RECORD > TEXT with inline ``<PHI TYPE="...">``."""
    seen: set[str] = set()
    for record in _parse(path, expected="ROOT").iter("RECORD"):
        element = record.find("TEXT")
        if element is None:
            refuse(path, record.sourceline, "a RECORD without TEXT")
        text, spans = element.text or "", []
        for phi in element:
            inner = "".join(phi.itertext())
            if phi.tag != "PHI" or not phi.get("TYPE"):
                refuse(path, phi.sourceline, 'expected <PHI TYPE="...">')
            spans.append(Span(len(text), len(text) + len(inner), phi.get("TYPE")))
            text += inner + (phi.tail or "")
        name = record.get("ID") or ""
        if not name or name in seen:
            refuse(path, record.sourceline, "expected a RECORD with an ID that no other has")
        seen.add(name)
        yield AnnotatedText(name, text, tuple(spans))


def read_2010(path: Path) -> Iterator[tuple[str, tuple[TaggedSentence, ...]]]:
    """Yield (id, sentences) of each ``.txt`` below a folder with a ``.con`` of the same name, next to it or in ``concept/``.

    ``.con`` counts lines from 1 and tokens from 0 with both ends included.
    """
    concepts = {found.stem: found for found in sorted(path.rglob("*.con"))}
    notes = {found.stem: found for found in sorted(path.rglob("*.txt"))}
    for name, concept in concepts.items():
        if name not in notes:
            raise SourceError(f"{concept.name}: no {name}.txt below {path.name}")
        tokens = [line.split() for _, line in numbered_lines(notes[name])]
        tags = [["O"] * len(line) for line in tokens]
        for number, line in numbered_lines(concept):
            if not line.strip():
                continue
            match = _CONCEPT.fullmatch(line.strip())
            if match is None:
                refuse(concept, number, 'expected c="..." line:token line:token||t="type"')
            row, first, last_row, last = (int(match[index]) for index in (2, 3, 4, 5))
            inside = row == last_row and 1 <= row <= len(tokens) and first <= last < len(tokens[row - 1])
            if not inside or " ".join(tokens[row - 1][first : last + 1]).lower() != " ".join(match[1].split()).lower():
                refuse(concept, number, f"line {row}, tokens {first}-{last} of {name}.txt are not the concept's text")
            tags[row - 1][first : last + 1] = [f"B-{match[6]}"] + [f"I-{match[6]}"] * (last - first)
        sentences = [TaggedSentence(tuple(a), tuple(b)) for a, b in zip(tokens, tags, strict=True) if a]
        yield name, tuple(sentences)


def read_2012(path: Path) -> AnnotatedText:
    """Return one note with its EVENT spans of the challenge's six types; TIMEX3 and EVENTs without a type are counted.

    The literature counts in this way (13 tags: six types, begin or inside, and outside). Entities inside the CDATA stay
    unchanged: the offsets count them.
    """
    root = _parse(path, expected="ClinicalNarrativeTemporalAnnotation")
    found = [tag for tag in root.iterfind("TAGS/*") if tag.tag in ("EVENT", "TIMEX3")]
    tags = [tag for tag in found if tag.tag == "EVENT" and (tag.get("type") or "").strip()]
    note = _annotated(path, root, tags, [tag.get("type").strip() for tag in tags])
    return replace(note, num_left_out=len(found) - len(tags))


def read_2014(path: Path) -> AnnotatedText:
    """Return one note (``320-03.xml``) with its PHI; the kind is the tag's TYPE (``DOCTOR``), which is within its
    name (NAME)."""
    root = _parse(path, expected="deIdi2b2")
    tags = list(root.iterfind("TAGS/*"))
    return _annotated(path, root, tags, [tag.get("TYPE") or tag.tag for tag in tags])


def _annotated(path: Path, root: Any, tags: list[Any], kinds: list[str]) -> AnnotatedText:
    """Return the note with the spans of its tags: offsets from 0, the end after the last character.

    The releases state some texts in another form than the note has (``and`` for ``&``, line ends as spaces, shifted notes): such
    spans are counted. Where most of a note's are, its offsets mean something else, and it is refused.
    """
    text = root.findtext("TEXT") or ""
    spans, found = [], []
    for tag, kind in zip(tags, kinds, strict=True):
        start, end = _offsets(path, tag, text)
        actual = text[start:end]
        found.append(Stated(tag.sourceline, start, end, actual, tag.get("text", actual)))
        spans.append(Span(start, end, kind))
    return AnnotatedText(path.stem, text, tuple(spans), num_not_as_stated(path, found))


def _offsets(path: Path, tag: Any, text: str) -> tuple[int, int]:
    try:
        start, end = int(tag.get("start", "")), int(tag.get("end", ""))
    except ValueError:
        refuse(path, tag.sourceline, f"{tag.tag} has no start and end")
    if not 0 <= start <= end <= len(text):
        refuse(path, tag.sourceline, f"{tag.tag} is outside of the text ({start}-{end} of {len(text)})")
    return start, end


def _parse(path: Path, *, expected: str) -> Any:
    from lxml import etree

    content = re.sub(rb"^<\?xml[^>]*\?>", b"", read_text(path).encode())
    options = {"resolve_entities": False, "no_network": True, "load_dtd": False, "remove_comments": True}
    try:
        root = etree.fromstring(content, etree.XMLParser(**options))
    except etree.XMLSyntaxError:
        # Some files of the releases have bare & and < in their text.
        escaped, count = _escaped(content)
        try:
            root = etree.fromstring(escaped, etree.XMLParser(**options))
        except etree.XMLSyntaxError as error:
            refuse(path, error.lineno, f"broken XML ({etree.ErrorTypes._getName(error.code, 'error')})")
        _logger.warning("%s: %d bare & or < are read as characters", path.name, count)
    if root.tag != expected:
        refuse(path, 1, f"root element {root.tag!r}, expected {expected!r}")
    return root


def _escaped(content: bytes) -> tuple[bytes, int]:
    """Return the file with & and < that begin nothing escaped, outside of CDATA, and how many they are."""
    parts, total = [], 0
    for number, part in enumerate(_CDATA.split(content)):
        escaped, ampersands = _BARE_AMPERSAND.subn(b"&amp;", part) if number % 2 == 0 else (part, 0)
        escaped, brackets = _BARE_BRACKET.subn(b"&lt;", escaped) if number % 2 == 0 else (escaped, 0)
        parts.append(escaped)
        total += ampersands + brackets
    return b"".join(parts), total
