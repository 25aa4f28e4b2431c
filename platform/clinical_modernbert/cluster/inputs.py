"""Look for the inputs of a job before a cluster starts for it, from the machine that submits.

It needs keys of the release's store, in the same variables as a job on this machine; without them ``research`` looks. Not
covered: raw files, which only pods see.
"""

import os

from clinical_modernbert.artifacts import open_store, resolve
from clinical_modernbert.cluster.kuberay_rules import KubernetesObject
from clinical_modernbert.errors import ArtifactError, ClusterError, StoreError
from clinical_modernbert.recipe import Recipe

_NEEDED = ("S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def check_inputs(recipe: Recipe, job: KubernetesObject) -> str | None:
    """Refuse a job that reads an artifact which the store lacks or has twice; return why nothing was checked, or None."""
    root = _root(job)
    references = recipe.references()
    if not references or root is None:
        return None
    if missing := [name for name in _NEEDED if root.startswith("s3://") and not os.environ.get(name)]:
        return f"this machine has no keys of {root} ({', '.join(missing)} not set)"
    try:
        store = open_store(root)
        for field, (kind, reference) in references.items():
            if not recipe.does_without(field):
                resolve(store, kind, reference)
    except StoreError as error:
        return str(error)
    except ArtifactError as error:
        raise ClusterError(f"{error} (checked before a cluster starts; --no-check skips this)") from None
    return None


def _root(job: KubernetesObject) -> str | None:
    """The store of the job's head."""
    containers = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    values = {variable["name"]: variable.get("value") for variable in containers[0].get("env", [])}
    root: str | None = values.get("ARTIFACT_ROOT")
    return root
