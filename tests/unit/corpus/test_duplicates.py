"""The latest version of a document wins, notices delete, and no pass looks at what an earlier one dropped."""

from pathlib import Path

import numpy as np
from clinical_modernbert.corpus.documents import HASH, KEY, NO_ROW
from clinical_modernbert.corpus.duplicates import find_duplicates, kept_rows, resolve_versions, unit_drops
from clinical_modernbert.corpus.work import WorkArea


def area_with(tmp_path: Path, units: list[list[tuple[int, int, int, int, bool]]]) -> WorkArea:
    area = WorkArea(f"file://{tmp_path}", "work")
    for number, rows in enumerate(units):
        table = np.array(rows, dtype=KEY)
        area.put_array(table[np.argsort(table["key"], kind="stable")], f"keys/{number:06d}.npy")
    return area


def drops(area: WorkArea, num_units: int, *, num_parts: int) -> list[dict[str, int]]:
    for part in range(num_parts):
        resolve_versions(area, num_units=num_units, part=part, num_parts=num_parts)
    return [unit_drops(area, unit=unit, parts={"versions": num_parts}) for unit in range(num_units)]


def test_order_then_version_decide_and_notices_delete_what_came_before(tmp_path: Path) -> None:
    high = 1 << 63
    units = [
        # key, order, version, row, deleted
        [(1, 1, 1, 0, False), (1, 1, 2, 1, False), (2, 1, 1, 2, False), (high, 1, 1, 3, False), (5, 1, 1, 4, False)],
        [(2, 2, 1, 0, False), (high, 2, 0, NO_ROW, True), (5, 2, 2, NO_ROW, False), (6, 2, 0, NO_ROW, True)],
        [(high, 3, 1, 0, False), (7, 3, 1, 1, False), (7, 3, 1, 2, False)],
    ]
    area = area_with(tmp_path, units)
    assert drops(area, 3, num_parts=3) == [{"superseded": 4}, {}, {}]
    assert kept_rows(area, unit=0, num_rows=5, parts={"versions": 3}).tolist() == [False, True, False, False, False]


def test_a_deleted_document_is_counted_as_deleted(tmp_path: Path) -> None:
    area = area_with(tmp_path, [[(9, 1, 1, 0, False), (9, 1, 2, 1, False)], [(9, 2, 0, NO_ROW, True)]])
    assert drops(area, 2, num_parts=1) == [{"superseded": 1, "deleted": 1}, {}]


def test_the_text_of_a_superseded_version_drops_no_other_document(tmp_path: Path) -> None:
    area = area_with(tmp_path, [[(1, 1, 1, 0, False)], [(1, 2, 1, 0, False), (2, 2, 1, 1, False), (3, 2, 1, 2, False)]])
    area.put_array(np.array([(7, 7, 0)], dtype=HASH), "hashes/000000.npy")
    area.put_array(np.array([(7, 7, 1), (7, 7, 2), (8, 8, 0)], dtype=HASH), "hashes/000001.npy")
    drops(area, 2, num_parts=1)
    find_duplicates(area, num_units=2, part=0, num_parts=1, earlier={"versions": 1})
    parts = {"versions": 1, "duplicates": 1}
    assert unit_drops(area, unit=0, parts=parts) == {"superseded": 1}
    assert kept_rows(area, unit=1, num_rows=3, parts=parts).tolist() == [True, True, False]
