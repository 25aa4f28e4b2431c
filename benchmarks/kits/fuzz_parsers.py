"""Parsers of raw files as functions of bytes, for fuzzing, with files to begin from.

Whatever the bytes are, a parser yields records or refuses them by a ``SourceError``, and no message and no quarantined record has
text of the input.
"""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe import CorpusRecipe, build_recipe
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.evaluation_sets import ner

from benchmarks.kits.bad_files import CANARY, FORMATS

_UNFORESEEN = "leave the file out and report it"
_SEPARATOR = b"\x00\x00"
"""Between text and annotations of brat."""


class RuleBrokenError(AssertionError):
    """A parser did what no rule allows; the message says which input parser and what."""


@dataclass(frozen=True, slots=True)
class Parser:
    """One parser, the file that its bytes are written to, and the files to begin from."""

    file: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path], Iterable[object]]


def check(name: str, content: bytes, folder: Path) -> str:
    """Parse ``content`` in ``folder``; return ``read`` or ``refused``, or raise ``RuleBrokenError`` or what the parser raised."""
    parser = PARSERS[name]
    path = folder / parser.file
    if name == "brat":
        text, _, annotations = content.partition(_SEPARATOR)
        path.with_suffix(".txt").write_bytes(text)
        path.write_bytes(annotations)
        path = folder
    else:
        path.write_bytes(content)
    try:
        for record in parser.read(path):
            if isinstance(record, Quarantined) and CANARY in str(record):
                raise RuleBrokenError(f"{name}: a quarantined record has text of the input")
    except SourceError as error:
        # The words of `checked_records` for an exception that no reader foresees.
        if CANARY in str(error) or _UNFORESEEN in str(error):
            raise RuleBrokenError(f"{name}: {str(error).replace(CANARY, '<text of the input>')}") from None
        return "refused"
    return "read"


def mutated(name: str, rng: np.random.Generator) -> bytes:
    """Return one of a parser's seeds with a few changes."""
    seeds = PARSERS[name].seeds
    content = bytearray(seeds[int(rng.integers(len(seeds)))])
    for _ in range(int(rng.integers(1, 6))):
        start = int(rng.integers(len(content) + 1))
        end = min(len(content), start + int(rng.integers(1, 60)))
        change = rng.integers(6)
        if change == 0 and content:
            content[start % len(content)] ^= 1 << int(rng.integers(8))
        elif change == 1:
            content[start:start] = rng.bytes(int(rng.integers(1, 9)))
        elif change == 2:
            del content[start:end]
        elif change == 3:
            content[start:start] = content[start:end] * int(rng.choice([1, 2, 1000]))
        elif change == 4:
            content[start:end] = TOKENS[int(rng.integers(len(TOKENS)))]
        else:
            other = seeds[int(rng.integers(len(seeds)))]
            content[start:] = other[int(rng.integers(len(other) + 1)) :]
    return bytes(content)


TOKENS = (
    b'"', b"'", b"\n", b"\r", b"\r\n", b"\t", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\xbd", b"\\ud83d", b"\xc2\x85",
    b"&#0;", b"&#x110000;", b"<!DOCTYPE a [<!ENTITY b \"c\">]>", b"&b;", b"<![CDATA[", b"]]>", b"-->", b"9" * 30, b"-1", b"1e999",
    b"NaN", b"[" * 5000, b'{"a":' * 5000, b"T1\tDrug 0 5;3 9\twarfarin", b"-DOCSTART-", b"B-", b"I-X", b"\xe2\x80\xa8",
)  # fmt: skip


@cache
def _source(kind: str, path: Path) -> Any:
    values = {"name": "s", "path": str(path), **FORMATS[kind].source}
    return build_recipe(CorpusRecipe, {"kind": "corpus", "name": "c", "sources": [values]}, origin="fuzz").sources[0]


def _records(kind: str) -> Callable[[Path], Iterable[object]]:
    def read(path: Path) -> Iterable[object]:
        source = _source(kind, path)
        for unit in list_units(source):
            yield from read_unit(source, unit)

    return read


def _lines(kind: str, numbers: Sequence[int] = (1, 2, 3)) -> bytes:
    form = FORMATS[kind]
    records = (form.record(n, f"{CANARY} has pain {n}.").encode() for n in numbers)  # type: ignore[union-attr]
    return form.head.encode() + b"".join(records) + form.tail.encode()  # type: ignore[union-attr]


def _quoted_rows() -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(
        [("id", "patient", "text"), ("n1", "1", f'{CANARY}, "quoted"\nand broken'), ("n2", "2", "x")]
    )
    return out.getvalue().encode()


_CONLL = (
    f"-DOCSTART-\n\n{CANARY.replace(' ', ' O' + chr(10))} O\ntook O\nwarfarin B-Drug\n5 I-Drug\n\nno O\npain U-Sign\n"
)
_BRAT = (
    f"{CANARY} took warfarin 5 mg.\r\nNo pain.".encode()
    + _SEPARATOR
    + b"T1\tDrug 25 33\twarfarin\nT2\tDose 34 35;36 38\t5 mg\nR1\tHas Arg1:T1 Arg2:T2\n#1\tNote T1\tseen\n"
)
PARSERS = {
    "pubmed": Parser("p.xml", (_lines("pubmed"), _lines("pubmed", [7])), _records("pubmed")),
    "csv": Parser("t.csv", (_lines("csv"), _quoted_rows()), _records("csv")),
    "fhir": Parser("DocumentReference.ndjson", (_lines("fhir"), _lines("fhir", [7])), _records("fhir")),
    "conll": Parser("c.tsv", (_CONLL.encode(), _CONLL.replace(" ", "\t").encode()), ner.read_conll),
    "brat": Parser("b.ann", (_BRAT, _BRAT.replace(b"\r\n", b"\n")), ner.read_brat),
}
