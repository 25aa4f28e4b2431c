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


@pytest.fixture
def publish(store: Store, tmp_path: Path) -> Publish:
    """Publish ``<kind>/<artifact_id>`` with the given files."""

    def publish(kind: str, artifact_id: str, **contents: str) -> Artifact:
        prefix = join_key(kind, artifact_id)
        files = []
        for name, text in contents.items():
            local = tmp_path / "made"
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
                files=files,
            ),
        )
        artifact = find_artifact(store, kind, artifact_id)
        assert artifact is not None
        return artifact

    return publish
