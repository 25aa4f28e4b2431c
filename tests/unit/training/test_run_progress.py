"""The progress in the store is the whole curve at any time, and a step writes what changed of it."""

import time
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import Store, open_store
from clinical_modernbert.artifacts.file_store import FileStore
from clinical_modernbert.training import run_progress
from clinical_modernbert.training.records import Records
from clinical_modernbert.training.run_progress import Progress, ProgressReader, ProgressWriter
from clinical_modernbert.training.state import HeldOutPoint, History, RollbackPoint, history_to_json


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(run_progress, "SEGMENT_POINTS", 3)
    return open_store(str(tmp_path))


def curve(num_points: int) -> History:
    return tuple(HeldOutPoint(n, {"uniform_loss": float(n)}) for n in range(num_points))


POINTS = curve(8)


def wait_for(reader: ProgressReader, progress: Progress) -> None:
    deadline = time.monotonic() + 60
    while reader.read() != progress and time.monotonic() < deadline:
        time.sleep(0.01)
    assert reader.read() == progress


def test_it_is_the_whole_curve_also_after_a_rollback(store: Store) -> None:
    records = Records(store, "r-1")
    reader = ProgressReader(records)
    assert reader.read() == Progress() and records.steps_done() == 0
    writer = ProgressWriter(records)
    rolled_back = (*POINTS[:2], RollbackPoint(7, 2, "a spike"))
    for step, history in enumerate((POINTS[:2], POINTS[:3], POINTS, rolled_back, (*rolled_back, *curve(9)[3:9]))):
        writer.write(Progress(step, 9, history))
        wait_for(reader, Progress(step, 9, history))
        assert ProgressReader(records).read() == reader.read() and records.steps_done() == step
    assert reader.read_json()["history"] == history_to_json(reader.read().history)
    writer.close()
    # Another process: points of the same steps are others, which a reader that kept segments must see.
    resumed = tuple(HeldOutPoint(point.step, {"uniform_loss": 0.5}) for point in POINTS)
    writer = ProgressWriter(records)
    writer.write(Progress(7, 9, resumed))
    wait_for(reader, Progress(7, 9, resumed))
    writer.close()


def test_a_step_writes_and_a_look_reads_only_the_newest_segment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(store, "r-1")
    writer, reader = ProgressWriter(records), ProgressReader(records)
    writer.write(Progress(7, 9, POINTS[:7]))
    wait_for(reader, Progress(7, 9, POINTS[:7]))
    seen: list[str] = []
    read, write = FileStore.read_bytes, FileStore.write_bytes

    def noted_write(self: FileStore, key: str, data: bytes) -> None:
        seen.append(f"write {key.rpartition('/')[2]}")
        write(self, key, data)

    def noted_read(self: FileStore, key: str) -> bytes:
        seen.append(f"read {key.rpartition('/')[2]}")
        return read(self, key)

    monkeypatch.setattr(FileStore, "write_bytes", noted_write)
    writer.write(Progress(8, 9, POINTS))
    writer.close()
    monkeypatch.setattr(FileStore, "read_bytes", noted_read)
    assert reader.read() == Progress(8, 9, POINTS)
    names = ("progress-000002.json", "progress.json")
    assert seen == [*(f"write {name}" for name in names), *(f"read {name}" for name in reversed(names))]
