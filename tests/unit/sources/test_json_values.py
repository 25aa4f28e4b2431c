"""JSON lines, arrays and indented values, cut anywhere, whole and broken."""

import json
import zlib
from collections.abc import Iterator

import pytest
from clinical_modernbert.sources.document import Quarantined
from clinical_modernbert.sources.inflate import DamagedFileError
from clinical_modernbert.sources.json_values import Value, read_values

VALUES = [{"id": n, "text": f"Line {n}\n, with ]}} and \u00e9"} for n in range(30)]
LINES = "\n".join(map(json.dumps, VALUES))
FORMS = {
    "lines": LINES,
    "blank lines": "\n\n" + LINES.replace("\n", "\n\n") + "\n",
    "array": json.dumps(VALUES),
    "indented array": "\ufeff  " + json.dumps(VALUES, indent=2, ensure_ascii=False),
    "indented values": "\n".join(json.dumps(value, indent=2) for value in VALUES),
}


def read(content: bytes, size: int = 7) -> list[Value | Quarantined]:
    return list(read_values((content[i : i + size] for i in range(0, len(content), size)), file="f.json"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [1, 64, 1 << 20])
def test_every_form_gives_the_values(form: str, size: int) -> None:
    found = read(FORMS[form].encode(), size)
    assert [item.value for item in found if isinstance(item, Value)] == VALUES
    assert [item.number for item in found if isinstance(item, Value)] == list(range(1, 31))


def test_a_broken_line_costs_itself() -> None:
    found = read(b'{"a": 1}\n{"a": Jane Roe}\n{"a": "\xff"}\n{"a": 2}\n')
    assert [type(item).__name__ for item in found] == ["Value", "Quarantined", "Quarantined", "Value"]
    assert "Jane" not in str(found) and "line 2" in str(found[1])


def test_after_a_break_in_an_array_the_rest_is_lost_and_counted() -> None:
    content = json.dumps(VALUES)
    at = content.index('{"id": 10')
    *before, last = read((content[:at] + "Jane Roe " + content[at:]).encode())
    assert len(before) == 10
    assert isinstance(last, Quarantined) and last.position == "value 11" and "Jane" not in str(last)
    assert last.unread_bytes == len(content[at:].encode()) + len("Jane Roe ") and not last.is_cut


def test_a_cut_archive_and_a_file_of_no_json() -> None:
    def cut() -> Iterator[bytes]:
        yield json.dumps(VALUES)[:500].encode()
        raise DamagedFileError("byte 9", "the gzip archive is truncated", is_cut=True)

    *before, last = read_values(cut(), file="f.json")
    assert len(before) == 9 and isinstance(last, Quarantined) and "byte 9" in last.position
    assert read(b"") == []
    (bad,) = read(zlib.compress(b"x" * 50) + b"\n")
    assert isinstance(bad, Quarantined)


def test_a_value_that_is_not_utf8_costs_itself() -> None:
    found = read(b'[{"a": 1}, {"a": "Jane \xff"}, {"a": 2}]')
    assert [type(item).__name__ for item in found] == ["Value", "Quarantined", "Value"]
    assert "Jane" not in str(found[1])


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a": 1}\n' + b"[" * 100_000 + b"\n", b'[{"a": ' + b"9" * 5000 + b"}]"]
)
def test_values_that_python_cannot_hold_are_quarantined(content: bytes) -> None:
    last = read(content, size=1 << 16)[-1]
    assert isinstance(last, Quarantined) and last.num_lost == 0


@pytest.mark.parametrize("end", [-1, -2, -40, 60])
def test_an_array_that_ends_early_is_cut(end: int) -> None:
    *before, last = read(json.dumps(VALUES).encode()[:end], size=64)
    assert all(isinstance(item, Value) for item in before)
    assert isinstance(last, Quarantined) and last.is_cut


def test_an_array_on_one_line_is_read_as_a_stream() -> None:
    given = 0

    def chunks() -> Iterator[bytes]:
        nonlocal given
        for part in ("[", *(f"{json.dumps(value)}," for value in VALUES * 100), "0]"):
            given += 1
            yield part.encode()

    next(values := read_values(chunks(), file="f.json"))
    assert given < 5
    assert len([*values]) == len(VALUES) * 100
