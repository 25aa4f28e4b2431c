"""What sets a group apart, and what leaves the explorer as a file."""

import numpy as np
import pyarrow as pa
from panels.explain import shares, terms
from panels.export import as_csv, provenance

from tests.helpers.explorer_page import PublishMap

VALUES = pa.chunked_array([["a"] * 30 + ["b"] * 20 + [None] * 5 + ["c"] * 45])


def rows(*numbers: range) -> np.ndarray:
    return np.concatenate([np.arange(part.start, part.stop) for part in numbers])


def test_shares_are_of_each_group_and_the_largest_difference_comes_first() -> None:
    found = shares(VALUES, rows(range(30), range(50, 55)), rows(range(30, 50), range(55, 100))).to_pylist()
    assert [line["value"] for line in found] == ["a", "c", "b", "no value"]
    assert found[0] == {"value": "a", "in the group": 30, "share": 30 / 35, "share in the other": 0}
    assert found[1]["share in the other"] == 45 / 65


def test_no_count_below_the_floor_is_shown_of_either_group() -> None:
    found = shares(VALUES, rows(range(40)), rows(range(40, 100)), floor=11).to_pylist()
    # Ten of b stand in each group: neither count may be told.
    assert [line["value"] for line in found] == ["a", "c"]


def test_terms_set_a_group_apart_and_common_words_do_not() -> None:
    texts = pa.chunked_array([["Fracture of the femur"] * 30 + ["Infection of the lung"] * 30 + ["Rare femur"]])
    found = terms(texts, np.arange(30), np.arange(30, 61)).to_pylist()
    assert {line["term"] for line in found} == {"fracture", "femur"}
    assert found[0]["term"] == "fracture"
    assert (found[0]["in the group"], found[0]["in the other"]) == (30, 0)
    assert all(line["z"] > 1.96 for line in found)
    assert len(terms(texts, np.arange(30), np.arange(30))) == 0


def test_a_file_says_where_it_comes_from_and_runs_nothing_in_a_spreadsheet(publish_map: PublishMap) -> None:
    artifact = publish_map()
    table = pa.table({"id": ["=cmd()", "+1", "plain, with comma"], "n": [-1, 2, 3], "l": [["a", "b"], [], ["c"]]})
    lines = as_csv(table, provenance(artifact)).decode().splitlines()
    assert lines[0] == "# Clinical ModernBERT. Research use, not for care."
    for fact in ("model m-1", artifact.manifest.fingerprint, "recipe map/tiny", artifact.manifest.created_at[:10]):
        assert fact in lines[1]
    assert lines[2].startswith("# exported 20")
    assert lines[3:] == ["id,n,l", "'=cmd(),-1,a; b", "'+1,2,", '"plain, with comma",3,c']
