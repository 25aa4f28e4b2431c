"""Finished artifacts: look up by reference, read files that are checked against the manifest, publish a folder."""

import hashlib
import os
import shutil
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts.layout import KINDS, artifact_prefix
from clinical_modernbert.artifacts.manifest import Manifest, read_manifest
from clinical_modernbert.artifacts.store import Store, join_key
from clinical_modernbert.errors import AbsentArtifactError, ArtifactError
from clinical_modernbert.hashing import file_sha256


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished artifact in a store."""

    store: Store
    manifest: Manifest
    prefix: str
    """Folder of the artifact in its store."""
    _checked: set[str] = field(default_factory=set, compare=False, repr=False)

    @property
    def uri(self) -> str:
        """Address of the artifact."""
        return f"{self.store.uri}/{self.prefix}"

    @property
    def summary(self) -> dict[str, Any]:
        """Counts and figures of the artifact."""
        return self.manifest.summary

    def file(self, path: str, *, cache_path: Path | None = None, copied: bool = False) -> Path:
        """Return a local path of one file, verified against its size and sha256 on its first use in this process.

        Files of an S3 store are downloaded below ``cache_path``, by default ``CLINICAL_CACHE`` or a folder under the system's
        temporary one. Several processes and machines may share it. ``copied`` copies those of a store in a folder there too: then
        exactly the verified bytes are read, and the folder has no other file of the store.
        """
        entry = self.manifest.entry(path)
        shared = os.environ.get("CLINICAL_CACHE")
        cache = cache_path or Path(shared or Path(tempfile.gettempdir()) / "clinical-modernbert-cache")
        local = cache / self._cache_name() / path
        if path in self._checked and local.is_file():
            return local
        try:
            local = local if _intact(local, entry.size_bytes, entry.sha256) else self._fetch(path, local, copied=copied)
        except KeyError:
            raise ArtifactError(f"{self.uri}/{path} is in the manifest but not in the store") from None
        if copied or path not in self._checked:
            if not _intact(local, entry.size_bytes, entry.sha256):
                raise ArtifactError(
                    f"{self.uri}/{path} differs from its manifest: it was damaged or replaced after publishing"
                )
            self._checked.add(path)
        return local

    def folder(self, prefix: str = "", *, cache_path: Path | None = None) -> Path:
        """Return a local folder that holds every file below ``prefix``, each verified."""
        paths = [entry.path for entry in self.manifest.files if entry.path.startswith(f"{prefix}/" if prefix else "")]
        if not paths:
            raise ArtifactError(f"{self.uri} has no files below {prefix!r}")
        locals_ = {path: self.file(path, cache_path=cache_path) for path in paths}
        first = paths[0]
        root = locals_[first].parents[first.count("/")]
        return root / prefix if prefix else root

    def _cache_name(self) -> str:
        # The store's URI is part of the key: files from two stores must never mix in one folder.
        return hashlib.sha256(f"{self.uri} {self.manifest.digest}".encode()).hexdigest()[:16]

    def _fetch(self, path: str, local: Path, *, copied: bool) -> Path:
        # A unique name: the workers of one machine share the cache and may fetch the same file at the same time.
        partial = local.with_name(f"{local.name}.{uuid.uuid4().hex}.partial")
        fetched = self.store.get_file(join_key(self.prefix, path), partial)
        if copied and fetched != partial:
            partial.parent.mkdir(parents=True, exist_ok=True)
            fetched = Path(shutil.copyfile(fetched, partial))
        return partial.replace(local) if fetched == partial else fetched


def _intact(path: Path, size_bytes: int, sha256: str) -> bool:
    return path.is_file() and path.stat().st_size == size_bytes and file_sha256(path) == sha256


def find_artifact(store: Store, kind: str, artifact_id: str) -> Artifact | None:
    """Return the artifact ``<name>-<fingerprint>``, or None where it was never finished."""
    return artifact_at(store, artifact_prefix(kind, artifact_id))


def artifact_at(store: Store, prefix: str, *, signed: bool = False) -> Artifact | None:
    """Return the artifact that was finished in the folder ``prefix``, or None; checkpoints are read this way too.

    ``signed``: see ``read_manifest``.
    """
    manifest = read_manifest(store, prefix, signed=signed)
    return Artifact(store=store, manifest=manifest, prefix=prefix) if manifest else None


def list_artifacts(store: Store, kind: str) -> list[Artifact]:
    """Return every finished artifact of a kind, sorted by id."""
    artifacts = (find_artifact(store, kind, artifact_id) for artifact_id in store.names(kind))
    return [artifact for artifact in artifacts if artifact]


def is_there(store: Store, kind: str, reference: str) -> bool:
    """Whether any finished artifact has this id or name."""
    ids = [
        artifact_id for artifact_id in store.names(kind) if reference in (artifact_id, artifact_id.rpartition("-")[0])
    ]
    return any(find_artifact(store, kind, artifact_id) for artifact_id in ids)


def resolve(store: Store, kind: str, reference: str) -> Artifact:
    """Return the artifact that ``reference`` names: its id, or a name under which exactly one artifact is finished."""
    assert kind in KINDS, kind
    exact = find_artifact(store, kind, reference)
    if exact:
        return exact
    ids = [artifact_id for artifact_id in store.names(kind) if artifact_id.rpartition("-")[0] == reference]
    finished = [artifact for artifact_id in ids if (artifact := find_artifact(store, kind, artifact_id))]
    if len(finished) == 1:
        return finished[0]
    if not finished:
        others = [artifact.manifest.id for artifact in list_artifacts(store, kind)]
        raise AbsentArtifactError(
            f"no {kind} {reference!r} in {store.uri}; finished there: {', '.join(others) or 'none'}. Build it first"
        )
    ids = [artifact.manifest.id for artifact in finished]
    raise ArtifactError(f"{kind} {reference!r} is ambiguous in {store.uri}: name one of {', '.join(ids)}")
