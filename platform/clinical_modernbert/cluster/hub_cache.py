"""A Hugging Face cache in the artifact store, for pods that cannot reach the hub: pushed from outside, pulled before Ray starts.

The cache is at ``hub/`` and has a manifest, so each file is verified when it is pulled. It contains only what the libraries look
up: references and snapshots, with files in place of links. Not covered: choosing what to download.
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
    """Upload the cache at ``folder`` (``~/.cache/huggingface/hub``); its manifest is written last and marks it complete."""
    paths = sorted(path for path in folder.glob("*--*/*/**/*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in paths]
    kept = [name for name in names if name.split("/")[1] in _KEPT]
    if not kept:
        raise ArtifactError(f"{folder} has no models--*/snapshots: name the folder hub of a Hugging Face cache")
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
    """Write the cache to ``folder``, verify each file, and return the number of files; files that are already there stay."""
    artifact = artifact_at(store, HUB)
    if artifact is None:
        raise ArtifactError(f"no hub cache in {store.uri}: fill it with `python jobs/hub_cache.py push FOLDER`")
    # In the parent of the target, so that a rename puts each file there at once and no partial file is ever visible.
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        for entry in artifact.manifest.files:
            target = folder / entry.path
            if target.is_file() and target.stat().st_size == entry.size_bytes:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            local = artifact.file(entry.path, cache_path=Path(scratch))
            is_temporary = local.is_relative_to(scratch)
            (local if is_temporary else Path(shutil.copyfile(local, Path(scratch) / "copy"))).replace(target)
    _logger.info("hub cache of %d files in %s", len(artifact.manifest.files), folder)
    return len(artifact.manifest.files)
