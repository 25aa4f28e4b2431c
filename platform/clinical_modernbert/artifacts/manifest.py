"""Manifests: the files of an artifact, what it was made from, and the mark that it is complete.

``manifest.json`` is written last and is the done-marker: without it nothing exists. It carries every file with its size and
sha256, the recipe, the code's version and the digests of the inputs. It never carries text from the corpus.

With ``CLINICAL_MANIFEST_KEY`` in the environment ``manifest.hmac`` is written before it: the HMAC-SHA256 (RFC 2104) of the folder
and the manifest's bytes. Training state is code to the library that loads it, and is then loaded only with that signature.
"""

import hashlib
import hmac
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from clinical_modernbert import __version__
from clinical_modernbert.artifacts.layout import MANIFEST_NAME, SIGNATURE_NAME
from clinical_modernbert.artifacts.store import Store, join_key
from clinical_modernbert.errors import ArtifactError, SignatureError
from clinical_modernbert.hashing import file_sha256
from clinical_modernbert.recipe.section import RecipeValues

KEY_VARIABLE = "CLINICAL_MANIFEST_KEY"


class FileEntry(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """Path below the artifact's folder. A reader writes the file to it below its cache, so no other path is one."""
    size_bytes: int
    sha256: str

    @field_validator("path")
    @classmethod
    def _below_the_folder(cls, path: str) -> str:
        if "\0" in path or any(name in ("", ".", "..") for name in path.split("/")):
            raise ValueError(f"the path {path!r} of a file must be relative, without empty names, '.' and '..'")
        return path


class InputEntry(BaseModel):
    """One input of the artifact: another artifact, or a raw file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """The recipe field, or the raw file's name below its source."""
    id: str
    """``<kind>/<name>-<fingerprint>`` of an artifact, or the source of a raw file."""
    digest: str
    """sha256 over the content."""


class Manifest(BaseModel):
    """The description of a finished artifact; code version and time are of its making unless given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    id: str
    fingerprint: str
    format_version: int
    code_version: str = __version__
    created_at: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """UTC, ISO 8601."""
    recipe: RecipeValues
    inputs: tuple[InputEntry, ...]
    summary: dict[str, Any]
    """Counts and figures of the artifact; no text."""
    files: tuple[FileEntry, ...]

    @property
    def digest(self) -> str:
        """sha256 over the kind and the files: equal content gives an equal digest, whenever it was made."""
        lines = [self.kind, *(f"{entry.path} {entry.sha256}" for entry in sorted(self.files, key=lambda e: e.path))]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def entry(self, path: str) -> FileEntry:
        """Return the entry of ``path``."""
        for entry in self.files:
            if entry.path == path:
                return entry
        raise ArtifactError(f"{self.kind}/{self.id} has no file {path!r} in its manifest")


def upload(store: Store, prefix: str, path: str, local_path: Path) -> FileEntry:
    """Upload ``local_path`` as ``path`` below ``prefix`` and return its manifest entry."""
    entry = FileEntry(path=path, size_bytes=local_path.stat().st_size, sha256=file_sha256(local_path))
    store.put_file(local_path, join_key(prefix, path))
    return entry


def upload_folder(store: Store, prefix: str, folder: Path, *, below: str = "") -> list[FileEntry]:
    """Upload every file of ``folder`` to the folder ``below`` of the artifact and return their entries, sorted by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [upload(store, prefix, join_key(below, path.relative_to(folder).as_posix()), path) for path in files]


def write_manifest(store: Store, prefix: str, manifest: Manifest) -> Manifest:
    """Write the manifest, which makes the artifact exist; return it with its files sorted by path."""
    manifest = manifest.model_copy(update={"files": tuple(sorted(manifest.files, key=lambda entry: entry.path))})
    # Not sorted by key: a recipe's sources and a report's rows are read back in the order in which they were written.
    data = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False).encode()
    key = signing_key()
    if key is not None:
        store.write_bytes(join_key(prefix, SIGNATURE_NAME), _signature(key, prefix, data).encode())
    store.write_bytes(join_key(prefix, MANIFEST_NAME), data)
    return manifest


def read_manifest(store: Store, prefix: str, *, signed: bool = False) -> Manifest | None:
    """Return the manifest below ``prefix``, or None where nothing was finished there.

    ``signed`` refuses it with ``SignatureError`` unless it was signed with the key of the environment, where there is a key.
    """
    key = join_key(prefix, MANIFEST_NAME)
    try:
        data = store.read_bytes(key)
    except KeyError:
        return None
    secret = signing_key() if signed else None
    if secret is not None:
        _check_signature(secret, store, prefix, data)
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise ArtifactError(f"{store.uri}/{key} is damaged: {error.errors(include_url=False)[0]['msg']}") from None


def signing_key() -> bytes | None:
    """Return the key of the environment, None where the variable is not set.

    Raises ``SignatureError`` if it is set and blank: a Secret or Helm value that is empty must not turn the check off.
    """
    value = os.environ.get(KEY_VARIABLE)
    if value is not None and not value.strip():
        raise SignatureError(f"{KEY_VARIABLE} is set and empty: give it a long random string, or unset it")
    return None if value is None else os.fsencode(value)  # any bytes are a key, also those that are not UTF-8


def _signature(key: bytes, prefix: str, data: bytes) -> str:
    # The folder is part of it: a signed manifest must not make the files of another run valid.
    return hmac.new(key, f"{prefix}\n".encode() + data, hashlib.sha256).hexdigest()


def _check_signature(secret: bytes, store: Store, prefix: str, data: bytes) -> None:
    key = join_key(prefix, SIGNATURE_NAME)
    try:
        found = store.read_bytes(key).decode(errors="replace")
    except KeyError:
        raise SignatureError(
            f"{store.uri}/{prefix} is not signed, and {KEY_VARIABLE} is set: delete it, or unset the variable to trust it"
        ) from None
    if not hmac.compare_digest(found.encode(), _signature(secret, prefix, data).encode()):
        raise SignatureError(f"{store.uri}/{key} is not the signature of its manifest under this {KEY_VARIABLE}")
