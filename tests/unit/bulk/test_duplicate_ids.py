"""Duplicate ids are counted over files and ranges of hashes, and the later row is the duplicate."""

from pathlib import Path

import pytest
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.bulk.duplicate_ids import IdHashes, find_duplicates, positions

FILES = (["a", "b", "a", "c"], [], ["d", "b", "a", "e"])


@pytest.mark.parametrize("partitions", [1, 2, 3, 7])
def test_every_later_row_with_a_known_id_is_counted_and_placed(tmp_path: Path, partitions: int) -> None:
    area = WorkArea(f"file://{tmp_path}", "work")
    for file, names in enumerate(FILES):
        ids = IdHashes()
        for row, name in enumerate(names):
            ids.add(10 * row, name)
        ids.put(area, file)
    found = [find_duplicates(area, len(FILES), partition, partitions) for partition in range(partitions)]
    assert sum(one.number for one in found) == 3
    assert positions(found) == [(0, 20), (2, 10), (2, 20)]


def test_a_range_keeps_its_first_duplicates_only(tmp_path: Path) -> None:
    area, ids = WorkArea(f"file://{tmp_path}", "work"), IdHashes()
    for row in range(1000):
        ids.add(row, str(row % 10))
    ids.put(area, 0)
    found = find_duplicates(area, 1, 0, 1)
    assert found.number == 990
    assert positions([found]) == [(0, row) for row in range(10, 15)]
