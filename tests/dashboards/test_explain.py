"""What sets a group apart."""

import numpy as np
import pyarrow as pa
from panels.explain import shares, terms

VALUES = pa.chunked_array([["a"] * 30 + ["b"] * 20 + [None] * 5 + ["c"] * 45])


def rows(*numbers: range) -> np.ndarray:
    return np.concatenate([np.arange(part.start, part.stop) for part in numbers])


def test_shares_are_of_each_group_and_the_largest_difference_comes_first() -> None:
    found = shares(VALUES, rows(range(30), range(50, 55)), rows(range(30, 50), range(55, 100))).to_pylist()
    assert [line["value"] for line in found] == ["a", "c", "b", "no value"]
    first = {"value": "a", "in the group": 30, "share": 30 / 35, "share in the other": 0, "beyond chance": True}
    assert found[0] == first
    assert found[1]["share in the other"] == 45 / 65


def test_no_count_below_the_floor_is_shown_of_either_group() -> None:
    found = shares(VALUES, rows(range(40)), rows(range(40, 100)), floor=11).to_pylist()
    # Ten of b stand in each group: neither count may be told.
    assert [line["value"] for line in found] == ["a", "c"]


def test_terms_set_a_group_apart_and_common_words_do_not() -> None:
    texts = pa.chunked_array([["Fracture of the femur"] * 30 + ["Infection of the lung"] * 30 + ["Rare femur"]])
    found = terms(texts, np.arange(30), np.arange(30, 61)).to_pylist()
    assert {line["word"] for line in found} == {"fracture", "femur"}
    assert found[0] == {"word": "fracture", "in the group": 30, "share": 1, "share in the other": 0}
    assert len(terms(texts, np.arange(30), np.arange(30))) == 0


def test_the_table_of_words_is_whole() -> None:
    """Streamlit offers the table as a file, so it may not end after the first words."""
    words = [f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(60)]
    texts = pa.chunked_array([[" ".join(words)] * 40 + ["other"] * 40])
    assert sorted(terms(texts, np.arange(40), np.arange(40, 80))["word"].to_pylist()) == words


def test_a_word_counts_once_in_a_row_and_in_five_rows_at_least() -> None:
    texts = pa.chunked_array([["Pain pain pain pain pain"] * 4 + ["Rest"] * 60])
    assert len(terms(texts, np.arange(4), np.arange(4, 64))) == 0


def test_random_groups_show_nothing_beyond_chance() -> None:
    """Ten random groups of 200 of 6,000 descriptions with a long tail of words, as the real tables have."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{chr(97 + n // 676 % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n % 26)}" for n in range(4000)])
    drawn = words[np.minimum(rng.zipf(1.3, size=(6000, 8)), 4000) - 1]
    texts = pa.chunked_array([[" ".join(line) for line in drawn]])
    chapter = pa.chunked_array([[f"chapter {n}" for n in rng.integers(20, size=6000)]])
    listed = 0
    for _ in range(10):
        group = np.sort(rng.choice(6000, size=200, replace=False))
        rest = np.setdiff1d(np.arange(6000), group)
        listed += len(terms(texts, group, rest)) + sum(shares(chapter, group, rest)["beyond chance"].to_pylist())
    assert listed <= 1
