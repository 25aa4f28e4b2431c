"""The explorer's shared look at a store: what is read once, what again, and what a page says meanwhile."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import manifests
import pytest
from clinical_modernbert.artifacts.file_store import FileStore
from clinical_modernbert.errors import StoreError
from manifests import Listing, Manifests, Progress
from streamlit.testing.v1 import AppTest

from tests.helpers.explorer_page import opened, publish_bare


class DistantStore(FileStore):
    """A store that takes its time, and counts its reads."""

    def __init__(self, root: Path, *, read_s: float = 0.0) -> None:
        super().__init__(root)
        self.read_s, self.reads, self.lists = read_s, 0, 0
        self.running = self.most_running = 0
        self.away = False
        self._lock = threading.Lock()

    def read_bytes(self, key: str) -> bytes:
        if self.away:
            raise StoreError("it is away")
        with self._lock:
            self.reads += 1
            self.running += 1
            self.most_running = max(self.running, self.most_running)
        time.sleep(self.read_s)
        with self._lock:
            self.running -= 1
        return super().read_bytes(key)

    def names(self, prefix: str) -> list[str]:
        self.lists += 1
        return super().names(prefix)


@pytest.fixture
def distant(tmp_path: Path) -> Callable[..., DistantStore]:
    """Make a store of ``count`` models."""

    def make(count: int, *, read_s: float = 0.0) -> DistantStore:
        found = DistantStore(tmp_path / "distant", read_s=read_s)
        for number in range(count):
            publish_bare(found, "model", f"m{number:04d}-1", inputs=(), recipe={})
        return found

    return make


def ids(found: Listing) -> set[str]:
    return {artifact.manifest.id for artifact in found.artifacts}


def listed(shelf: Manifests, *, tell: Callable[[Progress], None] = lambda _: None) -> Listing:
    return shelf.list_kinds(["model"], tell=tell)[0]


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are asked again at every listing."""
    monkeypatch.setattr(manifests, "RELOAD_S", 0.0)


def test_each_manifest_is_read_once_whatever_their_number(
    distant: Callable[..., DistantStore], no_waiting: None
) -> None:
    store = distant(300)
    shelf = Manifests(store)
    for _ in range(3):
        assert len(listed(shelf).artifacts) == 300
    assert (store.reads, store.lists) == (300, 3)


def test_names_are_asked_once_in_ten_seconds(distant: Callable[..., DistantStore]) -> None:
    store = distant(1)
    shelf = Manifests(store)
    listed(shelf), listed(shelf)
    assert store.lists == 1


def test_a_distant_store_is_read_side_by_side_and_the_count_is_told(distant: Callable[..., DistantStore]) -> None:
    store = distant(256, read_s=0.4)
    told: list[Progress] = []
    assert len(listed(Manifests(store), tell=told.append).artifacts) == 256
    assert 64 < store.most_running <= manifests.READERS
    assert told[-1].total == 256
    assert 0 < told[-1].done < 256


def test_what_is_unfinished_or_damaged_is_read_again_and_what_was_deleted_is_left_out(
    distant: Callable[..., DistantStore], no_waiting: None
) -> None:
    store = distant(3)
    store.write_bytes("model/half-1/manifest.json", b'{"kind": "mo')
    store.write_bytes("model/open-1/weights", b"w")
    shelf = Manifests(store)
    first = listed(shelf)
    assert len(first.artifacts) == 3
    assert "model/half-1/manifest.json is damaged" in first.problems[0]
    for name in ("half-1", "open-1"):
        publish_bare(store, "model", name, inputs=(), recipe={})
    store.clear("model/m0000-1")
    assert ids(listed(shelf)) == {"m0001-1", "m0002-1", "half-1", "open-1"}
    assert not listed(shelf).problems


def test_an_opened_artifact_that_was_rebuilt_is_seen_in_lists_too(
    distant: Callable[..., DistantStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = distant(2)
    shelf = Manifests(store)
    listed(shelf)
    publish_bare(store, "model", "m0000-1", inputs=(), recipe={"seed": 2})
    seen = shelf.find("model", "m0000-1")
    assert seen and seen.manifest.recipe == {}  # young enough
    monkeypatch.setattr(manifests, "CHECK_S", 0.0)
    seen = shelf.find("model", "m0000-1")
    assert seen and seen.manifest.recipe == {"seed": 2}
    assert seen in listed(shelf).artifacts
    assert shelf.find("model", "absent-1") is None


def test_a_failure_of_the_store_is_not_kept(distant: Callable[..., DistantStore]) -> None:
    store = distant(2)
    shelf = Manifests(store)
    store.away = True
    with pytest.raises(StoreError):
        listed(shelf)
    store.away = False
    assert len(listed(shelf).artifacts) == 2


def test_a_page_starts_again_when_the_artifact_that_it_opens_was_rebuilt(
    app: AppTest, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_bare(store, "model", "m-1", inputs=(), recipe={}, summary={"loss": 1})
    opened(app, "views/lineage.py", mode="researcher")
    assert json.loads(app.json[0].value) == {"loss": 1}
    publish_bare(store, "model", "m-1", inputs=(), recipe={}, summary={"loss": 2})
    monkeypatch.setattr(manifests, "CHECK_S", 0.0)
    app.run()
    assert not app.exception
    assert json.loads(app.json[0].value) == {"loss": 2}
