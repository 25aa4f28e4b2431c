"""A Hugging Face cache in the artifact store, for pods that do not reach the hub: pushed from outside, pulled before Ray starts.

It lies at ``hub/`` with a manifest, so that each file is verified when it is pulled. Only what the libraries look up is kept:
references and snapshots, the files themselves in place of the links to them. Not covered: choosing what to download.
"""

import logging
import shutil
import tempfile
from pathlib import Path

from clinical_modernbert.artifacts.artifact import artifact_at
from clinical_modernbert.artifacts.manifest import Manifest, upload, write_manifest
from clinical_modernbert.artifacts.store import Store
from clinical_modernbert.cluster.access import HUB
from clinical_modernbert.errors import ArtifactError

_KEPT = ("refs", "snapshots")

_logger = logging.getLogger(__name__)


def push(store: Store, folder: Path) -> Manifest:
    """Upload the cache at ``folder`` (``~/.cache/huggingface/hub``); a manifest written last makes it whole."""
    found = sorted(path for path in folder.glob("*--*/*/**/*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in found]
    kept = [name for name in names if name.split("/")[1] in _KEPT]
    if not kept:
        raise ArtifactError(f"{folder} holds no models--*/snapshots: name the folder hub of a Hugging Face cache")
    files = [upload(store, HUB, name, folder / name) for name in kept]
    summary = {"repositories": sorted({name.split("/")[0] for name in kept})}
    return write_manifest(
        store,
        HUB,
        Manifest(
            kind=HUB,
            id=HUB,
            fingerprint="",
            format_version=1,
            recipe={},
            inputs=(),
            summary=summary,
            files=tuple(files),
        ),
    )


def pull(store: Store, folder: Path) -> int:
    """Write the cache to ``folder``, each file verified, and return how many files it has; what is there already stays."""
    artifact = artifact_at(store, HUB)
    if artifact is None:
        raise ArtifactError(f"no hub cache in {store.uri}: fill it with `python jobs/hub_cache.py push FOLDER`")
    # Beside the target, so that a file moves there by its name alone and is never half there.
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        for entry in artifact.manifest.files:
            target = folder / entry.path
            if target.is_file() and target.stat().st_size == entry.size_bytes:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            local = artifact.file(entry.path, cache_path=Path(scratch))
            inside = local.is_relative_to(scratch)
            (local if inside else Path(shutil.copyfile(local, Path(scratch) / "copy"))).replace(target)
    _logger.info("hub cache of %d files in %s", len(artifact.manifest.files), folder)
    return len(artifact.manifest.files)
