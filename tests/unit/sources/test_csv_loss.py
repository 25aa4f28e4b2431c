"""After a broken quote: what is lost is counted, and no line of a note becomes a document or a group."""

import pytest
from clinical_modernbert.sources.csv_rows import Row, read_rows
from clinical_modernbert.sources.document import Quarantined

PIECES = "Jane Roe, called again\nJohn Doe, discharged\n"


def read(body: str, header: str = "subject_id,text\n") -> list[Row | Quarantined]:
    content = (header + body).encode()
    return list(
        read_rows((content[i : i + 7] for i in range(0, len(content), 7)), file="f.csv", columns=("subject_id", "text"))
    )


def ids(rows: list[Row | Quarantined]) -> list[str]:
    return [row.values[0] for row in rows if isinstance(row, Row)]


def row(number: int, text: str = "A note, of the day.") -> str:
    return f'{number},"{text}"\n'


@pytest.mark.parametrize(
    "broken",
    [
        f'3,"He said "no" and left\n{PIECES}"\n',  # quotes of the text that are not doubled
        f'3,"He said "no", then\n{PIECES}left"\n',  # one of them looks like a closing quote
        f'3,"never closed\n{PIECES}',
        f'3,"never closed "so"\n{PIECES}{PIECES}',
    ],
)
def test_lines_of_a_note_never_become_rows(broken: str) -> None:
    rows = read(row(1) + row(2) + broken + row(4) + row(5) + row(6))
    assert set(ids(rows)) <= {"1", "2", "4", "5", "6"} and {"1", "2", "6"} <= set(ids(rows))
    (bad,) = [found for found in rows if isinstance(found, Quarantined)]
    assert bad.position.startswith("lines 4-") and "lines are lost" in bad.reason and "Roe" not in str(bad)


def test_swallowed_rows_are_counted_as_lost() -> None:
    rows = read(
        "".join(f"{n},plain\n" for n in range(200)) + '200,"open\n' + "".join(f"{n},plain\n" for n in range(9799))
    )
    assert len(ids(rows)) == 200
    assert isinstance(rows[-1], Quarantined) and rows[-1].position == "lines 202-10001"
    assert rows[-1].num_lost == 9799 and "9800 lines are lost" in rows[-1].reason


def test_lost_lines_are_rows_by_the_lines_of_the_rows_before() -> None:
    note = "line, one\nline, two\nline, three\nline, four"
    rows = read(
        "".join(row(n, note) for n in range(50)) + row(50, 'a "b" c') + row(51, note) + '52,"open\n' + row(53, note)
    )
    bad = [found for found in rows if isinstance(found, Quarantined)]
    assert [found.position for found in bad] == ["lines 202-202", "lines 207-211"]
    assert [found.num_lost for found in bad] == [0, 0] and ids(rows)[-1] == "51"


def test_without_a_good_row_to_compare_with_the_remainder_is_lost() -> None:
    rows = read('1,"open "x" y\n' + PIECES + row(2) + row(3))
    (bad,) = rows
    assert isinstance(bad, Quarantined) and (bad.position, bad.num_lost) == ("lines 2-6", 4)


def test_a_header_that_cannot_be_read_loses_the_file() -> None:
    (bad,) = read("1,a\n2,b\n", header='"subject_id"x,text\n')
    assert isinstance(bad, Quarantined) and (bad.position, bad.num_lost) == ("line 1", 2)
