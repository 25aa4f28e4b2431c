"""A step's result comes back as it was, and JSON of another form is refused and never guessed at."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import FileEntry, open_store
from clinical_modernbert.artifacts.work_area import WorkArea, from_json, to_json
from clinical_modernbert.errors import StoreError


@dataclass(frozen=True, slots=True)
class Bad:
    position: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Step:
    rows: int
    by_source: dict[int, int]
    bad: tuple[Bad, ...]
    files: tuple[FileEntry, ...]


STEP = Step(3, {0: 7, 12: 5}, (Bad("line 7", None),), (FileEntry(path="a.npy", size_bytes=1, sha256="0" * 64),))
JSON = {
    "rows": 3,
    "by_source": {"0": 7, "12": 5},
    "bad": [{"position": "line 7", "sha256": None}],
    "files": [{"path": "a.npy", "size_bytes": 1, "sha256": "0" * 64}],
}


@pytest.fixture
def area(tmp_path: Path) -> WorkArea:
    return WorkArea(open_store(str(tmp_path)).uri, "work/corpus/a-1")


def test_a_result_is_json_with_the_fields_of_its_type() -> None:
    assert json.loads(to_json(STEP, Step)) == JSON
    assert from_json(json.dumps(JSON), Step) == STEP


def test_a_step_runs_once(area: WorkArea) -> None:
    runs = []
    for _ in range(2):
        assert area.once("packed/0", lambda: runs.append(1) or STEP, Step) == STEP
    assert len(runs) == 1
    assert area.done("packed/1", Step) is None
    area.clear()
    assert area.done("packed/0", Step) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({k: v for k, v in JSON.items() if k != "rows"}, "rows: "),
        (JSON | {"rows": "many"}, "rows: "),
        (JSON | {"column": 1}, "other fields than those of Step"),
        (JSON | {"bad": [{"position": "line 7", "sha256": None, "text": "x"}]}, "other fields than those of Step"),
        (JSON | {"bad": [{"position": "line 7"}]}, "bad.0.sha256: "),
    ],
    ids=["missing", "of another type", "unknown", "unknown below", "missing below"],
)
def test_a_result_of_another_form_is_refused(area: WorkArea, values: dict[str, object], message: str) -> None:
    area.put_bytes(json.dumps(values).encode(), "packed/0.json")
    with pytest.raises(StoreError, match=f"packed/0.json is not a result of this version's step .{message}"):
        area.once("packed/0", lambda: STEP, Step)
