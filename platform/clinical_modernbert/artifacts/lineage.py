"""What an artifact was made from, as far as the store still holds it."""

from collections.abc import Callable

from clinical_modernbert.artifacts.artifact import Artifact, find_artifact
from clinical_modernbert.artifacts.store import Store
from clinical_modernbert.errors import ArtifactError

Find = Callable[[Store, str, str], Artifact | None]
"""Returns the artifact of a kind and id, or None: ``find_artifact``, or a caller's cache of it."""


def synthetic_sources(artifact: Artifact, *, find: Find = find_artifact) -> list[str] | None:
    """Return the names of the generated sources from which ``artifact`` was made, or None if this is no longer known.

    An artifact that states them in its summary needs no inputs. Otherwise its inputs are asked, and theirs. If one was deleted
    or replaced, only what the others name is known.
    """
    stated = artifact.summary.get("synthetic_sources")
    if stated is not None:
        return sorted(stated)
    names: set[str] = set()
    complete = True
    for entry in artifact.manifest.inputs:
        kind, separator, artifact_id = entry.id.partition("/")
        if not separator:
            continue
        try:
            found = find(artifact.store, kind, artifact_id)
        except ArtifactError:
            found = None
        below = synthetic_sources(found, find=find) if found and found.manifest.digest == entry.digest else None
        names |= set(below or ())
        complete = complete and below is not None
    return sorted(names) if names or complete else None
