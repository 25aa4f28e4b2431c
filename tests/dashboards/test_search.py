"""Search: the beginning of a code, or words of the description."""

import pytest
from panels.search import find_codes

from tests.helpers.explorer_page import CODES_PER_CHAPTER, code_table


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("102.01", [41]),
        ("10201", [41]),
        ("diabetic", [41]),
        ("  KIDNEY disease", [41]),
        ("disease diabetic", [41]),
        ("(type 2)", [41]),
        ("103.", list(range(3 * CODES_PER_CHAPTER, 4 * CODES_PER_CHAPTER))),
        (".", []),
        ("<organ> *5*", list(range(5 * CODES_PER_CHAPTER, 6 * CODES_PER_CHAPTER))),
        ("kidney 103", []),
        ("[", []),
        (".*", []),
    ],
)
def test_find_codes(query: str, found: list[int]) -> None:
    assert find_codes(code_table(), query) == found
