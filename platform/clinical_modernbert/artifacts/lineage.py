"""What an artifact was made from, as far as the store still holds it."""

from clinical_modernbert.artifacts.artifact import Artifact, find_artifact
from clinical_modernbert.errors import ArtifactError


def synthetic_sources(artifact: Artifact) -> list[str] | None:
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
            found = find_artifact(artifact.store, kind, artifact_id)
        except ArtifactError:
            found = None
        below = synthetic_sources(found) if found and found.manifest.digest == entry.digest else None
        names |= set(below or ())
        complete = complete and below is not None
    return sorted(names) if names or complete else None
