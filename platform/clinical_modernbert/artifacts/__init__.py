"""The artifact store: the path of everything in it, its content, and whether it is whole. Loads neither torch nor ray."""

from clinical_modernbert.artifacts.artifact import Artifact, artifact_at, find_artifact, list_artifacts, resolve
from clinical_modernbert.artifacts.initial_model import (
    find_model,
    folder_digest,
    id_on_hub,
    model_config,
    model_name,
    open_model,
)
from clinical_modernbert.artifacts.lineage import models_before, synthetic_sources, trained_on
from clinical_modernbert.artifacts.manifest import (
    FileEntry,
    InputEntry,
    Manifest,
    read_manifest,
    upload,
    upload_folder,
    write_manifest,
)
from clinical_modernbert.artifacts.open import open_store
from clinical_modernbert.artifacts.plan import Plan, make_plan
from clinical_modernbert.artifacts.states import find_state, open_state
from clinical_modernbert.artifacts.store import ObjectInfo, Store, join_key
from clinical_modernbert.artifacts.waiting import wait_until_there

__all__ = [
    "Artifact",
    "FileEntry",
    "InputEntry",
    "Manifest",
    "ObjectInfo",
    "Plan",
    "Store",
    "artifact_at",
    "find_artifact",
    "find_model",
    "find_state",
    "folder_digest",
    "id_on_hub",
    "join_key",
    "list_artifacts",
    "make_plan",
    "model_config",
    "model_name",
    "models_before",
    "open_model",
    "open_state",
    "open_store",
    "read_manifest",
    "resolve",
    "synthetic_sources",
    "trained_on",
    "upload",
    "upload_folder",
    "wait_until_there",
    "write_manifest",
]
