"""The store seam: a folder and a real S3 service keep the same promises, so that nothing above needs to know which it has."""

import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import (
    Manifest,
    ObjectInfo,
    Store,
    artifact_at,
    list_artifacts,
    open_store,
    upload_folder,
    write_manifest,
)
from clinical_modernbert.errors import ArtifactError, StoreError
from minio import Minio
from minio.error import S3Error

from tests.helpers.s3_server import S3Server

KINDS = [pytest.param("file"), pytest.param("s3", marks=pytest.mark.s3)]


@pytest.fixture(params=KINDS)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URI of an empty root."""
    if request.param == "file":
        return f"file://{tmp_path}/store #1"
    server: S3Server = request.getfixturevalue("s3_environment")
    return f"s3://{server.bucket}/{uuid.uuid4().hex}/below"


@pytest.fixture
def store(root: str) -> Store:
    return open_store(root)


def test_reads_back_what_was_written(store: Store) -> None:
    store.write_bytes("corpus/a/manifest.json", b"\x00\xff text")
    assert store.read_bytes("corpus/a/manifest.json") == b"\x00\xff text"


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.write_bytes("empty", b"")
    assert store.read_bytes("empty") == b""
    assert [*store.walk("")] == [ObjectInfo("empty", 0)]


def test_whether_an_object_may_be_written_is_known_without_an_object(store: Store) -> None:
    store.check_writable("corpus/a/write-check")
    assert [*store.walk("")] == [] and store.names("") == []
    store.write_bytes("corpus/a/shard", b"1")
    store.check_writable("corpus/a/shard.2")
    assert [item.key for item in store.walk("")] == ["corpus/a/shard"]


def test_a_range_is_read_of_the_version_that_was_seen(store: Store) -> None:
    store.write_bytes("key", bytes(range(256)))
    seen = store.info("key")
    assert (seen.key, seen.size_bytes) == ("key", 256)
    assert [item.version for item in store.walk("")] == [seen.version]
    assert store.read_range("key", 250, 6, version=seen.version) == bytes(range(250, 256))
    store.write_bytes("key", bytes(300))
    assert store.info("key").version != seen.version
    with pytest.raises(StoreError, match="key changed while it was read"):
        store.read_range("key", 0, 10, version=seen.version)
    for ask in (store.info, lambda key: store.read_range(key, 0, 1, version="")):
        with pytest.raises(KeyError):
            ask("absent")


def test_writing_again_replaces_the_whole_object(store: Store) -> None:
    store.write_bytes("key", b"long first content")
    store.write_bytes("key", b"short")
    assert store.read_bytes("key") == b"short"


def test_files_travel_both_ways(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(bytes(range(256)) * 40_000)
    store.put_file(source, "model/weights.bin")
    local = store.get_file("model/weights.bin", tmp_path / "deep" / "folder" / "target.bin")
    assert local.read_bytes() == source.read_bytes()
    assert [*store.walk("model")] == [ObjectInfo("model/weights.bin", 256 * 40_000)]


@pytest.mark.parametrize("key", ["absent", "folder", "folder/absent", "folder/here/below-an-object"])
def test_what_is_absent_is_a_key_error(store: Store, tmp_path: Path, key: str) -> None:
    store.write_bytes("folder/here", b"x")
    with pytest.raises(KeyError):
        store.read_bytes(key)
    with pytest.raises(KeyError):
        store.get_file(key, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_walk_is_recursive_and_sorted_by_key(store: Store) -> None:
    keys = ["a/x", "a-b/x", "a.b", "a/y/z/w", "a/y/k", "B", "top", "a/é"]
    for key in keys:
        store.write_bytes(key, key.encode())
    assert [item.key for item in store.walk("")] == sorted(keys)
    assert [item.key for item in store.walk("a")] == ["a/x", "a/y/k", "a/y/z/w", "a/é"]
    assert [item.size_bytes for item in store.walk("a/y")] == [5, 7]


def test_a_prefix_is_a_folder_not_the_beginning_of_a_name(store: Store) -> None:
    for key in ("run/1", "run-2/1", "runner"):
        store.write_bytes(key, b"x")
    assert [item.key for item in store.walk("run")] == ["run/1"]
    assert store.names("run") == ["1"]


def test_names_are_one_level_sorted_and_without_slashes(store: Store) -> None:
    for key in ("map/b-1/codes", "map/b-1/manifest.json", "map/a-2/x/y", "map/loose"):
        store.write_bytes(key, b"x")
    assert store.names("map") == ["a-2", "b-1", "loose"]
    assert store.names("") == ["map"]
    assert store.names("absent") == []
    assert [*store.walk("absent")] == []


def test_delete_removes_one_object_and_is_content_when_there_is_none(store: Store) -> None:
    store.write_bytes("a/x", b"x")
    store.write_bytes("a/y", b"y")
    store.delete("a/x")
    store.delete("a/x")
    store.delete("never")
    assert [item.key for item in store.walk("")] == ["a/y"]
    with pytest.raises(KeyError):
        store.read_bytes("a/x")


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "a/./b"])
@pytest.mark.parametrize("operate", [Store.read_bytes, Store.delete, Store.names])
def test_no_key_leaves_the_root(store: Store, key: str, operate: Callable[..., object]) -> None:
    with pytest.raises(StoreError, match=r"must not hold"):
        getattr(store, operate.__name__)(key)


def test_two_roots_do_not_see_each_other(root: str) -> None:
    inner, sibling = open_store(f"{root}/inner/"), open_store(f"{root}/inner-2")
    inner.write_bytes("key", b"inner")
    sibling.write_bytes("key", b"sibling")
    assert inner.read_bytes("key") == b"inner"
    assert [item.key for item in open_store(root).walk("")] == ["inner-2/key", "inner/key"]
    assert inner.uri == f"{root}/inner"


def test_a_reader_sees_a_whole_object_while_it_is_rewritten(store: Store) -> None:
    size = 1 << 18
    contents = [bytes([value]) * size for value in (1, 2)]
    store.write_bytes("key", contents[0])
    stop, seen = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            seen.append(store.read_bytes("key"))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(20):
        store.write_bytes("key", contents[turn % 2])
    stop.set()
    reader.join()
    assert len(seen) > 1
    assert all(data in contents for data in seen)
    assert [item.key for item in store.walk("")] == ["key"]


def test_an_artifact_is_published_read_and_checked(store: Store, tmp_path: Path) -> None:
    (tmp_path / "made" / "sub").mkdir(parents=True)
    (tmp_path / "made" / "a.txt").write_text("first")
    (tmp_path / "made" / "sub" / "b.txt").write_text("second")
    files = upload_folder(store, "map/m-1", tmp_path / "made")
    assert list_artifacts(store, "map") == []
    write_manifest(
        store,
        "map/m-1",
        Manifest(
            kind="map", id="m-1", fingerprint="1", format_version=1, recipe={}, inputs=(), summary={"n": 2}, files=files
        ),
    )
    (artifact,) = list_artifacts(store, "map")
    cache = tmp_path / "cache"
    assert artifact.file("a.txt", cache_path=cache).read_text() == "first"
    folder = artifact.folder("sub", cache_path=cache)
    assert (folder / "b.txt").read_text() == "second"
    assert artifact.folder(cache_path=cache) == folder.parent

    store.write_bytes("map/m-1/sub/b.txt", b"sec0nd")
    again = artifact_at(store, "map/m-1")
    assert again is not None
    with pytest.raises(ArtifactError, match=r"map/m-1/sub/b\.txt differs from its manifest"):
        again.file("sub/b.txt", cache_path=tmp_path / "fresh")


@pytest.mark.s3
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "opening the bucket"),
        ("AWS_ACCESS_KEY_ID", "nobody", "opening the bucket"),
        ("S3_ENDPOINT_URL", "localhost:9000", "must be an http:// or https:// URL"),
        ("S3_ENDPOINT_URL", None, "S3_ENDPOINT_URL is not set"),
    ],
)
def test_a_wrong_environment_is_a_store_error(
    s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None, message: str
) -> None:
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    with pytest.raises(StoreError, match=message) as caught:
        open_store(f"s3://{s3_environment.bucket}/x")
    assert s3_environment.secret_key not in str(caught.value)


@pytest.mark.s3
@pytest.mark.parametrize(
    ("bucket", "message"), [("absent", "'absent' does not exist"), ("A", "invalid bucket"), ("", "no bucket")]
)
def test_a_bucket_that_cannot_be_used_is_a_store_error(s3_environment: S3Server, bucket: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        open_store(f"s3://{bucket}/prefix")


@pytest.mark.s3
def test_a_reader_may_read_and_is_told_that_it_may_not_write(
    s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = f"s3://{s3_environment.bucket}/{uuid.uuid4().hex}"
    open_store(root).write_bytes("key", b"x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_environment.reader_access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_environment.reader_secret_key)
    reader = open_store(root)
    assert reader.read_bytes("key") == b"x"
    assert reader.names("") == ["key"]
    with pytest.raises(StoreError, match=r"writing key failed with AccessDenied"):
        reader.write_bytes("key", b"y")
    with pytest.raises(StoreError, match=r"writing key failed with AccessDenied"):
        reader.check_writable("key")
    with pytest.raises(StoreError, match=r"deleting key failed with AccessDenied"):
        reader.delete("key")


@pytest.mark.s3
def test_keys_that_may_write_but_abort_no_upload_are_good(
    s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise S3Error(None, "AccessDenied", "", "", "", "")  # type: ignore[arg-type]  # it has no answer

    monkeypatch.setattr(Minio, "_abort_multipart_upload", refuse)
    store = open_store(f"s3://{s3_environment.bucket}/{uuid.uuid4().hex}")
    store.check_writable("key")
    assert [*store.walk("")] == []


def test_a_folder_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"writing corpus/x failed with"):
        open_store(f"{tmp_path}/file").write_bytes("corpus/x", b"x")


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.write_bytes("folder/x", b"x")
    with pytest.raises(StoreError, match=r"writing folder failed with"):
        store.write_bytes("folder", b"an object where a folder is")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "x"]


@pytest.mark.parametrize("root", ["http://host/x", "S3://bucket", "", "file://"])
def test_a_root_that_is_none_is_a_store_error(root: str) -> None:
    with pytest.raises(StoreError, match="root"):
        open_store(root)
