"""Finding artifacts by reference, and reading only files that are what the manifest says."""

import re
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import Artifact, Store, resolve
from clinical_modernbert.errors import ArtifactError, StoreError

from tests.helpers.artifacts import Publish


@pytest.mark.parametrize("damage", ["changed", "truncated", "longer", "missing"])
def test_a_file_that_is_not_what_was_published_is_refused_by_name(store: Store, publish: Publish, damage: str) -> None:
    artifact = publish("model", "m-1", good="fine", weights="0123456789")
    content = {"changed": b"0123456798", "truncated": b"01234", "longer": b"0123456789 ", "missing": None}[damage]
    if content is None:
        store.delete("model/m-1/weights.txt")
    else:
        store.write_bytes("model/m-1/weights.txt", content)
    assert artifact.file("good.txt").read_text() == "fine"
    with pytest.raises(
        ArtifactError, match=r"model/m-1/weights\.txt (differs from its manifest|is in the manifest but)"
    ):
        artifact.file("weights.txt")
    with pytest.raises(ArtifactError, match=r"weights\.txt"):
        artifact.folder()


def test_a_file_outside_the_manifest_is_refused(store: Store, publish: Publish) -> None:
    artifact = publish("model", "m-1", weights="x")
    store.write_bytes("model/m-1/extra.txt", b"slipped in")
    with pytest.raises(ArtifactError, match=r"no file 'extra\.txt'"):
        artifact.file("extra.txt")
    with pytest.raises(ArtifactError, match="has no files below 'sub'"):
        artifact.folder("sub")


def test_a_folder_is_never_put_together_from_two_stores(
    store: Store, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache that another store with the same content left half full must not be mixed with this one's files."""
    artifact = publish("model", "m-1", a="first", b="second")
    cache = tmp_path / "cache"

    class Remote:
        uri = "s3://elsewhere"

        def get_file(self, key: str, local_path: Path) -> Path:
            local_path.parent.mkdir(parents=True, exist_ok=True)
            local_path.write_bytes(store.read_bytes(key))
            return local_path

    remote = Artifact(store=Remote(), manifest=artifact.manifest, prefix=artifact.prefix)  # type: ignore[arg-type]
    fetched = remote.file("a.txt", cache_path=cache)
    assert cache in fetched.parents
    monkeypatch.setenv("CLINICAL_CACHE", str(cache))
    assert remote.file("a.txt") == fetched
    assert {path.name for path in artifact.folder(cache_path=cache).iterdir()} >= {"a.txt", "b.txt"}
    fetched.write_text("tampered with in the cache")
    fresh = Artifact(store=remote.store, manifest=artifact.manifest, prefix=artifact.prefix)
    assert fresh.file("a.txt", cache_path=cache).read_text() == "first"
    assert sorted(path.name for path in fetched.parent.iterdir()) == ["a.txt"]


def test_reference_by_name_or_id(store: Store, publish: Publish) -> None:
    publish("model", "base-aaa", weights="1")
    publish("model", "base-large-bbb", weights="2")
    assert resolve(store, "model", "base").manifest.id == "base-aaa"
    assert resolve(store, "model", "base-large").manifest.id == "base-large-bbb"
    assert resolve(store, "model", "base-large-bbb").manifest.id == "base-large-bbb"


def test_ambiguous_reference_lists_the_ids(store: Store, publish: Publish) -> None:
    for artifact_id in ("base-aaa", "base-bbb", "other-ccc"):
        publish("model", artifact_id, weights=artifact_id)
    store.write_bytes("model/base-ddd/weights.txt", b"never finished")
    with pytest.raises(ArtifactError, match=r"'base' is ambiguous .*: name one of base-aaa, base-bbb$"):
        resolve(store, "model", "base")
    assert resolve(store, "model", "base-bbb").manifest.id == "base-bbb"


def test_absent_reference_says_what_is_there(store: Store, publish: Publish) -> None:
    with pytest.raises(
        ArtifactError, match=re.escape(f"no model 'base' in {store.uri}; finished there: none. Build it first")
    ):
        resolve(store, "model", "base")
    publish("model", "other-ccc", weights="1")
    publish("corpus", "base-aaa", shard="1")
    with pytest.raises(ArtifactError, match="finished there: other-ccc"):
        resolve(store, "model", "base")


def test_a_reference_cannot_leave_the_store(store: Store) -> None:
    with pytest.raises(StoreError, match="must not hold"):
        resolve(store, "model", "../secrets")
