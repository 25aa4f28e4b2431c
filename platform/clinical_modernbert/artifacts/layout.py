"""Every path in the store.

``<kind>/<name>-<fingerprint>/`` holds an artifact, ``checkpoint/<run>/`` resumable training state, ``work/`` the files
that a build keeps between its steps and deletes at the end. ``list/<code table>/`` holds the code lists that users saved.
"""

from clinical_modernbert.artifacts.store import join_key

KINDS = ("corpus", "pairs", "model", "sweep", "evaluation", "map", "embeddings", "spans")

# Kind of recipe -> kind of artifact that it makes.
ARTIFACT_KIND_OF_RECIPE = {
    "corpus": "corpus",
    "pairs": "pairs",
    "pretrain": "model",
    "merge": "model",
    "contrast": "model",
    "sweep": "sweep",
    "evaluate": "evaluation",
    "fine_tune": "model",
    "probe": "evaluation",
    "map": "map",
    "embed": "embeddings",
    "extract": "spans",
    "project": "map",
}

# Raised when the code's output for the same recipe changes, so that old work is never taken for new.
FORMAT_VERSION = {
    "corpus": 11,
    "pairs": 6,
    "model": 5,
    "sweep": 5,
    "evaluation": 5,
    "map": 6,
    "embeddings": 2,
    "spans": 1,
}

MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.hmac"


def artifact_prefix(kind: str, artifact_id: str) -> str:
    """Return the folder of an artifact; ``artifact_id`` is ``<name>-<fingerprint>``."""
    assert kind in KINDS, kind
    return join_key(kind, artifact_id)


def checkpoints_prefix(run_id: str) -> str:
    """Return the folder that holds a run's checkpoints."""
    return join_key("checkpoint", run_id)


def checkpoint_prefix(run_id: str, *, step: int, unique: str) -> str:
    """Return the folder of one checkpoint; ``unique`` keeps a repeated step apart from a torn one."""
    return join_key(checkpoints_prefix(run_id), f"{step:09d}-{unique}")


def work_prefix(kind: str, artifact_id: str) -> str:
    """Return the folder for intermediate files of a build."""
    return join_key("work", kind, artifact_id)


def lists_prefix(table: str) -> str:
    """Return the folder of the saved lists of a code table; each is a file ``<id>.json``."""
    return join_key("list", table)
