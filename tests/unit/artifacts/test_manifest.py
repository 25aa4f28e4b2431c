"""The manifest is the done-marker, and the measure of every file that is read."""

import json
import os
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import (
    Manifest,
    Store,
    find_artifact,
    list_artifacts,
    read_manifest,
    write_manifest,
)
from clinical_modernbert.artifacts import manifest as manifest_module
from clinical_modernbert.errors import ArtifactError, SignatureError
from clinical_modernbert.hashing import file_sha256

from tests.helpers.artifacts import Publish


def test_without_its_manifest_nothing_exists(store: Store, publish: Publish) -> None:
    store.write_bytes("model/half-1/weights.txt", b"uploaded, then the job died")
    publish("model", "whole-2", weights="x")
    assert find_artifact(store, "model", "half-1") is None
    assert [artifact.manifest.id for artifact in list_artifacts(store, "model")] == ["whole-2"]


def test_manifest_holds_what_was_uploaded(store: Store, publish: Publish) -> None:
    publish("model", "m-1", b="second", a="first")
    manifest = read_manifest(store, "model/m-1")
    assert manifest is not None
    assert [(entry.path, entry.size_bytes) for entry in manifest.files] == [("a.txt", 5), ("b.txt", 6)]
    assert manifest.created_at.endswith("+00:00")
    with pytest.raises(ArtifactError, match=r"model/m-1 has no file 'c\.txt'"):
        manifest.entry("c.txt")


def test_what_is_written_is_read_back_in_its_order(store: Store) -> None:
    """A first run shows what it has in memory, a second what it reads: both must show the same screen."""
    summary = {"sources": {"notes": 1, "abstracts": 2}, "fill": 0.5}
    written = write_manifest(
        store,
        "corpus/c-1",
        Manifest(
            kind="corpus",
            id="c-1",
            fingerprint="1",
            format_version=1,
            recipe={"sources": [], "name": "c"},
            inputs=(),
            summary=summary,
            files=(),
        ),
    )
    read = read_manifest(store, "corpus/c-1")
    assert read == written
    assert list(read.summary) == list(summary) and list(read.summary["sources"]) == ["notes", "abstracts"]


def test_digest_is_of_the_content_not_of_the_time_or_name(
    store: Store, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish("model", "first-1", a="same", b="content").manifest
    monkeypatch.setattr(manifest_module, "__version__", "99")
    second = publish("model", "second-2", b="content", a="same").manifest
    later = second.model_copy(update={"created_at": "2099-01-01T00:00:00+00:00"})
    assert first.digest == second.digest == later.digest
    assert publish("model", "third-3", a="same", b="Content").manifest.digest != first.digest
    assert publish("model", "fourth-4", a="same", c="content").manifest.digest != first.digest
    assert publish("corpus", "first-1", a="same", b="content").manifest.digest != first.digest


@pytest.mark.parametrize("damage", [b"", b'{"kind": "model"', b"{}", b"\xff\xfe", b'{"kind": 3}'])
def test_damaged_manifest_is_refused_by_name(store: Store, publish: Publish, damage: bytes) -> None:
    publish("model", "m-1", a="x")
    store.write_bytes("model/m-1/manifest.json", damage)
    with pytest.raises(ArtifactError, match=r"model/m-1/manifest\.json is damaged"):
        find_artifact(store, "model", "m-1")


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_signed_manifest_is_accepted_under_its_key_alone(
    store: Store, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINICAL_MANIFEST_KEY", "first")
    publish("model", "m-1", a="content")
    assert read_manifest(store, "model/m-1", signed=True) is not None
    monkeypatch.setenv("CLINICAL_MANIFEST_KEY", "second")
    assert read_manifest(store, "model/m-1") is not None  # what is not code needs no signature
    with pytest.raises(SignatureError, match=r"model/m-1/manifest\.hmac is not the signature of its manifest"):
        read_manifest(store, "model/m-1", signed=True)


def test_an_unsigned_a_changed_and_a_moved_manifest_are_refused(
    store: Store, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("model", "plain-1", a="content")
    assert read_manifest(store, "model/plain-1", signed=True) is not None
    monkeypatch.setenv("CLINICAL_MANIFEST_KEY", "key")
    publish("model", "signed-1", a="content")
    with pytest.raises(SignatureError, match="model/plain-1 is not signed"):
        read_manifest(store, "model/plain-1", signed=True)
    data = store.read_bytes("model/signed-1/manifest.json")
    store.write_bytes("model/signed-1/manifest.json", data.replace(b'"signed-1"', b'"signed-2"'))
    with pytest.raises(SignatureError, match="is not the signature"):
        read_manifest(store, "model/signed-1", signed=True)
    store.write_bytes("model/moved-1/manifest.json", data)
    store.write_bytes("model/moved-1/manifest.hmac", store.read_bytes("model/signed-1/manifest.hmac"))
    with pytest.raises(SignatureError, match="is not the signature"):
        read_manifest(store, "model/moved-1", signed=True)


@pytest.mark.parametrize("path", ["/tmp/outside", "../outside", "a/../../outside", "a//b", "./a", "", "a\0b"])
def test_a_path_out_of_the_folder_is_no_file_of_a_manifest(store: Store, publish: Publish, path: str) -> None:
    """A reader writes each file to its path below the cache: who may write to the store must not choose another place."""
    publish("model", "m-1", name="content")
    data = store.read_bytes("model/m-1/manifest.json")
    forged = data.replace(b'"name.txt"', json.dumps(path).encode())
    store.write_bytes("model/m-1/manifest.json", forged)
    with pytest.raises(ArtifactError, match=r"model/m-1/manifest\.json is damaged: .* must be relative"):
        find_artifact(store, "model", "m-1")


@pytest.mark.parametrize("key", ["", " ", "\n"])
def test_a_key_that_is_set_and_empty_does_not_turn_the_check_off(
    store: Store, publish: Publish, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    publish("model", "plain-1", a="content")
    monkeypatch.setenv("CLINICAL_MANIFEST_KEY", key)
    for action in (lambda: read_manifest(store, "model/plain-1", signed=True), lambda: publish("model", "m-2", a="b")):
        with pytest.raises(SignatureError, match="CLINICAL_MANIFEST_KEY is set and empty"):
            action()


def test_a_key_of_any_bytes_signs(store: Store, publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (b"\xff\xfe", b"\xff\xfd"):
        monkeypatch.setenv("CLINICAL_MANIFEST_KEY", os.fsdecode(key))
        if key.endswith(b"\xfe"):
            publish("model", "m-1", a="content")
            assert read_manifest(store, "model/m-1", signed=True) is not None
    with pytest.raises(SignatureError, match="is not the signature"):
        read_manifest(store, "model/m-1", signed=True)
