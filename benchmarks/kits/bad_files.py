"""Raw files of source types for drills: whole, with records that cannot be read, and damaged in six ways.

Every text has ``CANARY``, which no message and no list of quarantined records may hold.
"""

import base64
import gzip
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CANARY = "Zebulon Quartermain"
Damage = Literal["truncated", "wrong_magic", "empty", "tenfold", "not_utf8", "bomb"]
DAMAGES: tuple[Damage, ...] = ("truncated", "wrong_magic", "empty", "tenfold", "not_utf8", "bomb")
_BOMB_BYTES = 1 << 27
_TABLE = {"type": "table", "text_column": "text", "id_column": "id", "group_column": "patient"}


@dataclass(frozen=True, slots=True)
class TextFormat:
    """A format of lines or elements: what comes first, one record, what comes last, and records that cannot be read."""

    source: dict[str, Any]
    """Recipe fields of the source without name and path."""
    name: str
    """Of a file, with its number."""
    record: Callable[[int, str], str]
    poison: tuple[Callable[[int], bytes], ...]
    head: str = ""
    tail: str = ""

    def write(self, numbers: Sequence[int], poison: Sequence[int] = ()) -> bytes:
        """Return a file of the numbered records, after which come the numbered ones that cannot be read."""
        good = [self.record(number, text_of(number)).encode() for number in numbers]
        bad = [self.poison[number % len(self.poison)](number) for number in poison]
        half = len(good) // 2
        return self._packed([self.head.encode(), *good[:half], *bad, *good[half:], self.tail.encode()])

    def damaged(self, kind: Damage, numbers: Sequence[int]) -> bytes:
        """Return the file with one kind of damage."""
        if kind == "bomb":
            whole = self.head.encode() + self.record(0, text_of(0)).encode()
            return gzip.compress(whole) + gzip.compress(b" " * (1 << 20)) * (_BOMB_BYTES >> 20)
        if kind == "not_utf8":
            whole = self._packed([self.head.encode(), *(self.record(n, text_of(n)).encode() for n in numbers)])
            plain = gzip.decompress(whole) if self._is_packed else whole
            place = CANARY.encode() if CANARY.encode() in plain else b"Patient/"
            return self._packed([plain.replace(place, place + b"\xff\xfe", 1), self.tail.encode()])
        return _damaged(kind, self.write(numbers), lambda: self.write(tenfold(numbers)))

    @property
    def _is_packed(self) -> bool:
        return self.name.endswith(".gz")

    def _packed(self, parts: Sequence[bytes]) -> bytes:
        content = b"".join(parts)
        return gzip.compress(content, 1) if self._is_packed else content


@dataclass(frozen=True, slots=True)
class ParquetFormat:
    """A table in Parquet; a record that cannot be read has a text that is not UTF-8, or no id."""

    source: dict[str, Any]
    name: str
    columns: Callable[[int], dict[str, Any]]
    """The values of a numbered record."""
    text_column: str
    types: dict[str, pa.DataType]

    def write(self, numbers: Sequence[int], poison: Sequence[int] = ()) -> bytes:
        """Return a file of the numbered records, after which come the numbered ones that cannot be read."""
        rows = [self.columns(number) for number in numbers]
        bad = [{**self.columns(number), self.text_column: b"\xff\xfe " + CANARY.encode()} for number in poison]
        return self._table([*rows, *bad])

    def damaged(self, kind: Damage, numbers: Sequence[int]) -> bytes:
        """Return the file with one kind of damage."""
        if kind == "bomb":
            texts = [{**self.columns(n), self.text_column: "x" * (1 << 20)} for n in range(_BOMB_BYTES >> 20)]
            return self._table(texts, use_dictionary=False)
        if kind == "not_utf8":
            return self.write(numbers[1:], poison=numbers[:1])
        return _damaged(kind, self.write(numbers), lambda: self.write(tenfold(numbers)))

    def _table(self, rows: Sequence[dict[str, Any]], **settings: Any) -> bytes:
        arrays = {}
        for column, kind in self.types.items():
            values = [row[column] for row in rows]
            # As bytes first: Arrow itself refuses a text that is not UTF-8.
            is_text = pa.types.is_string(kind)
            arrays[column] = pa.array(values, pa.binary()).view(kind) if is_text else pa.array(values, kind)
        out = io.BytesIO()
        pq.write_table(pa.table(arrays), out, compression="zstd", **settings)
        return out.getvalue()


def tenfold(numbers: Sequence[int]) -> list[int]:
    """Return the numbers of ten times as many records."""
    return [10**8 + 10 * number + digit for number in numbers for digit in range(10)]


def text_of(number: int) -> str:
    """Return the text of a record, another one for each number."""
    rng = np.random.default_rng(number)
    words = " ".join(
        f"{rng.choice(['fever', 'cough', 'pain', 'rash', 'chest'])} {rng.integers(10**6)}" for _ in range(12)
    )
    return f"{CANARY} was seen in the ward with {words}."


def _damaged(kind: Damage, whole: bytes, longer: Callable[[], bytes]) -> bytes:
    if kind == "truncated":
        return whole[: len(whole) // 2 + 1]
    if kind == "wrong_magic":
        return b"\x89PNG\r\n\x1a\n" + whole[8:]
    return b"" if kind == "empty" else longer()


def _article(number: int, text: str, pmid: str | None = None, version: str = "1") -> str:
    return (
        f'<PubmedArticle><MedlineCitation><PMID Version="{version}">{number if pmid is None else pmid}</PMID><Article>'
        f"<ArticleTitle>Title.</ArticleTitle><Abstract><AbstractText>{text}</AbstractText></Abstract>"
        "<Language>eng</Language></Article></MedlineCitation></PubmedArticle>\n"
    )


def _resource(number: int, content: bytes, content_type: str = "text/plain", **fields: Any) -> str:
    data = {"contentType": content_type, "data": base64.b64encode(content).decode()}
    values = {
        "resourceType": "DocumentReference",
        "id": f"d{number}",
        "subject": {"reference": f"Patient/{number}"},
        "content": [{"attachment": data}],
        **fields,
    }
    return json.dumps(values) + "\n"


def _json(number: int, text: object, **fields: Any) -> str:
    return json.dumps({"id": f"n{number}", "patient": number, "text": text, **fields}) + "\n"


_BAD_ROWS = (
    lambda n: f'n{n},7,"{CANARY}",more\n'.encode(),
    lambda n: f"n{n},7,{CANARY} ".encode() + b"\xff\n",
    lambda n: f",7,{CANARY} {n}\n".encode(),
)
FORMATS: dict[str, TextFormat | ParquetFormat] = {
    "pubmed": TextFormat(
        {"type": "pubmed"},
        "p{:04d}.xml.gz",
        _article,
        (
            lambda n: _article(n, "<q>" * 300 + CANARY + "</q>" * 300).encode(),
            lambda n: _article(n, CANARY, version="9" * 30).encode(),
            lambda n: _article(n, CANARY, pmid="").encode(),
        ),
        head='<?xml version="1.0"?>\n<PubmedArticleSet>\n',
        tail="</PubmedArticleSet>\n",
    ),
    "csv": TextFormat(
        _TABLE, "t{:04d}.csv", lambda n, text: f'n{n},{n},"{text}"\n', _BAD_ROWS, head="id,patient,text\n"
    ),
    "json": TextFormat(
        _TABLE,
        "t{:04d}.jsonl.gz",
        _json,
        (
            lambda n: b"[" * 20_000 + b"\n",
            lambda n: _json(n, CANARY, id=f"{n} \ud83d").encode(),
            lambda n: _json(n, [CANARY]).encode(),
            lambda n: f'{{"id": "n{n}", "text": {CANARY}}}\n'.encode(),
            lambda n: b'{"id": "n", "text": "\xff"}\n',
        ),
    ),
    "parquet": ParquetFormat(
        _TABLE,
        "t{:04d}.parquet",
        lambda n: {"id": f"n{n}", "patient": n, "text": text_of(n)},
        "text",
        {"id": pa.string(), "patient": pa.int64(), "text": pa.string()},
    ),
    "fhir": TextFormat(
        {"type": "fhir"},
        "DocumentReference.{:04d}.ndjson",
        lambda n, text: _resource(n, text.encode()),
        (
            lambda n: b'{"a":' * 20_000 + b"\n",
            lambda n: _resource(n, rb"{\rtf1 \u99999999999? " + CANARY.encode() + b"}", "text/rtf").encode(),
            lambda n: _resource(n, CANARY.encode() + b"\xff").encode(),
            lambda n: _resource(n, CANARY.encode(), subject=None).encode(),
            lambda n: _resource(n, CANARY.encode(), meta={"lastUpdated": "2" * 40}).encode(),
            lambda n: _resource(n, CANARY.encode(), relatesTo=CANARY).encode(),
        ),
    ),
    "meds": ParquetFormat(
        {"type": "meds"},
        "m{:04d}.parquet",
        lambda n: {"subject_id": n, "time": n, "code": "NOTE", "text_value": text_of(n)},
        "text_value",
        {"subject_id": pa.int64(), "time": pa.timestamp("us"), "code": pa.string(), "text_value": pa.string()},
    ),
    "omop": TextFormat(
        {"type": "omop_note"},
        "note/{:04d}.csv.gz",
        lambda n, text: f'{n},{n},"{text}"\n',
        _BAD_ROWS,
        head="note_id,person_id,note_text\n",
    ),
    "mimic": TextFormat(
        {"type": "mimic_note"},
        "discharge{:04d}.csv.gz",
        lambda n, text: f'{n}-DS-1,{n},"{text}"\n',
        (*_BAD_ROWS, lambda n: f'{n}-DS-1,{CANARY},"{CANARY}"\n'.encode()),
        head="note_id,subject_id,text\n",
    ),
    "codes": TextFormat(
        {"type": "codes", "table": "icd10cm"},
        "c{:04d}.txt",
        lambda n, text: f"A{n // 100 % 100:02d}{n % 100:02d}   {text}\n",
        (lambda n: f"{CANARY} {n}\n".encode(),),
    ),
}
"""Source types of one file of records, the table in its three formats. ``tests/unit/sources/test_damaged_files.py`` has the types
of one document a file or of several files."""
