"""What a job that was killed leaves next to its finished artifact, and its deletion when the same command ends.

Every job clears its work area and its checkpoints after the manifest, and a killed one may not get there. A killed job may also
have written files that the one after it does not have (other workers cut a table into other parts). Not covered: a job that was
never run again. Its files have no manifest, so that no reader sees them.
"""

import logging
from typing import Any

from clinical_modernbert.artifacts.artifact import Artifact
from clinical_modernbert.artifacts.layout import MANIFEST_NAME, SIGNATURE_NAME, checkpoints_prefix, work_prefix
from clinical_modernbert.artifacts.plan import Plan
from clinical_modernbert.artifacts.store import join_key
from clinical_modernbert.errors import StoreError

_logger = logging.getLogger(__name__)


def sweep_leftovers(plan: Plan[Any], artifact: Artifact) -> None:
    """Delete what belongs to the making of ``artifact`` alone, except states that its run or this one is told to keep."""
    store, prefixes = plan.store, [work_prefix(plan.kind, plan.id)]
    # This setting is not in the fingerprint: the run that made the states may have had another one.
    sections = [recipe.get("checkpoint") for recipe in (artifact.manifest.recipe, plan.recipe.model_dump(mode="json"))]
    if sections[1] and not any(section and section.get("keep_after_export") for section in sections):
        prefixes.append(checkpoints_prefix(plan.id))
    kept = {entry.path for entry in artifact.manifest.files} | {MANIFEST_NAME, SIGNATURE_NAME}
    try:
        keys = [item.key for prefix in prefixes for item in store.walk(prefix)]
        # Manifests first: a checkpoint without its manifest does not exist, even if a later delete fails.
        keys.sort(key=lambda key: not key.endswith(f"/{MANIFEST_NAME}"))
        keys += [item.key for item in store.walk(plan.prefix) if item.key.removeprefix(f"{plan.prefix}/") not in kept]
        for key in keys:
            store.delete(key)
    except StoreError as error:  # the artifact is there, which is what the job is about; its keys may not delete
        _logger.warning("files that an earlier run left were not deleted: %s", error)
        return
    if keys:
        _logger.info("deleted %d files that an earlier run of %s left", len(keys), join_key(plan.kind, plan.id))
