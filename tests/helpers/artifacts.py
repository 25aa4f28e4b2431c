"""Small artifacts in tests, published through the real functions."""

from collections.abc import Callable
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import (
    Artifact,
    Manifest,
    Store,
    find_artifact,
    join_key,
    upload,
    write_manifest,
)

Publish = Callable[..., Artifact]


def publish_artifact(store: Store, kind: str, artifact_id: str, folder: Path, **contents: str) -> Artifact:
    """Publish ``<kind>/<artifact_id>`` with the given files, which are written to ``folder`` first."""
    prefix = join_key(kind, artifact_id)
    files = []
    for name, text in contents.items():
        local = folder / "made"
        local.write_text(text)
        files.append(upload(store, prefix, f"{name}.txt", local))
    write_manifest(
        store,
        prefix,
        Manifest(
            kind=kind,
            id=artifact_id,
            fingerprint=artifact_id.rpartition("-")[2],
            format_version=1,
            recipe={},
            inputs=(),
            summary={},
            files=tuple(files),
        ),
    )
    artifact = find_artifact(store, kind, artifact_id)
    assert artifact is not None
    return artifact


@pytest.fixture
def publish(store: Store, tmp_path: Path) -> Publish:
    """Publish ``<kind>/<artifact_id>`` with the given files in the test's store."""

    def publish(kind: str, artifact_id: str, **contents: str) -> Artifact:
        return publish_artifact(store, kind, artifact_id, tmp_path, **contents)

    return publish
