"""What is lost after a broken quote in a CSV file, and where the rows begin again.

After the break the file is inside a quoted field: lines of a note follow, and some of them have as many commas as a row. So a row
counts as one only if it follows a closing quote, has the header's number of columns, and its short columns look like those of the
last good rows. Where no column can be compared, the remainder of the file is lost.

Example: after rows ``12,"..."`` with a number in the first column, the line ``Jane Roe, called again`` of a note is not a row.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from clinical_modernbert.sources.document import Quarantined

_MOST_CHARACTERS = 64  # a longer value is text, which has no form
_MOST_SHAPES = 2
_END = "unexpected end of data"  # of csv.Error
_RUNS = re.compile(r"\d+|[^\W\d_]+|\s+")


@dataclass(frozen=True, slots=True)
class Loss:
    """The lines from a broken row up to the next good one."""

    first_line: int
    reason: str
    lines_a_row: float
    """Of the good rows before it."""
    shapes: tuple[frozenset[str] | None, ...]
    """The forms that each column had in the last good rows; None for a column of texts."""

    def ends_at(self, row: Sequence[str]) -> bool:
        """Whether ``row`` is a row of the table again."""
        if len(row) != len(self.shapes):
            return False
        compared = [_shape(value) in shapes for value, shapes in zip(row, self.shapes, strict=True) if shapes]
        return bool(compared) and all(compared)

    def quarantined(self, file: str, last_line: int) -> Quarantined:
        """Return the record that stands for all lines up to ``last_line``, with an estimate of the rows in them."""
        lines = last_line - self.first_line + 1
        reason = f"broken CSV quoting ({self.reason}); {lines} line{'s are' if lines > 1 else ' is'} lost"
        lost = max(round(lines / self.lines_a_row) - 1, 0)
        # A file that ends in a quoted field is cut, or has a quote that nothing closes.
        is_cut = self.reason == _END
        return Quarantined(file, f"lines {self.first_line}-{last_line}", reason, num_lost=lost, is_cut=is_cut)


def column_shapes(rows: Sequence[Sequence[str]], num_columns: int) -> tuple[frozenset[str] | None, ...]:
    """Return the forms of each column in ``rows``; None where it has long values or more than two forms."""
    shapes: list[frozenset[str] | None] = []
    for index in range(num_columns):
        values = [row[index] for row in rows]
        found = frozenset(map(_shape, values)) if all(len(v) <= _MOST_CHARACTERS for v in values) else frozenset()
        shapes.append(found if 0 < len(found) <= _MOST_SHAPES else None)
    return tuple(shapes)


def skip_quoted(line: str, following: Iterator[str], *, inside: bool, delimiter: str) -> None:
    """Take lines from ``following`` until one ends outside of a quoted field; ``line`` is the one with the break.

    ``inside`` tells whether that line begins inside a quoted field. A quote that closes nothing is taken as text.
    """
    # From inside a quoted field up to its closing quote, before a delimiter or the line's end; ``""`` is a quote of the text.
    ends = rf"[{re.escape(delimiter)}\r\n]"
    to_closing = re.compile(rf'(?:[^"]++|""|"(?!{ends}))*+"(?={ends})')
    while _ends_inside(line, to_closing, delimiter, inside=inside):
        inside = True
        line = next(following, "")
        if not line:
            return


def _ends_inside(line: str, to_closing: re.Pattern[str], delimiter: str, *, inside: bool) -> bool:
    position = 0
    if not inside and line.startswith('"'):
        inside, position = True, 1
    while True:
        if inside:
            closing = to_closing.match(line, position)
            if closing is None:
                return True
            inside, position = False, closing.end()
        else:
            opening = line.find(f'{delimiter}"', position)
            if opening < 0:
                return False
            inside, position = True, opening + 2


def _shape(value: str) -> str:
    """``10-DS-3`` -> ``9-A-9``, ``Jane Roe`` -> ``x x``."""
    return _RUNS.sub(_run_shape, value)


def _run_shape(run: re.Match[str]) -> str:
    text = run[0]
    if text.isspace():
        return " "
    if text[0].isdigit():
        return "9"
    return "A" if text.isupper() else "a" if text.islower() else "x"
