"""What each role may do in the object store, as the policy document that S3 services take.

Three roles. A ``reader`` (explorer, endpoint) sees artifacts alone. A ``publisher`` (corpus, maps, embeddings) also writes
artifacts, but no models, and never sees training state, which is pickle. A ``trainer`` (pretraining, sweeps, evaluation) also
writes models and keeps checkpoints. Nobody deletes an artifact: that is the platform team's. Pure functions over the layout;
enforcing a policy is the store's work, and ``store_check`` asks whether it does.
"""

from collections.abc import Iterator
from typing import Any, Literal, get_args

from clinical_modernbert.artifacts.layout import KINDS
from clinical_modernbert.artifacts.store import join_key

Role = Literal["reader", "publisher", "trainer"]
ROLES: tuple[Role, ...] = get_args(Role)

# Top folders that no kind of artifact owns.
CHECKPOINT, WORK, HUB = "checkpoint", "work", "hub"
# An evaluation fine-tunes, and publishes the models that come of it.
_TRAINER_KINDS = frozenset({"pretrain", "sweep", "evaluate"})
_READ, _WRITE, _DELETE = ("s3:GetObject",), ("s3:PutObject", "s3:AbortMultipartUpload"), ("s3:DeleteObject",)


def role_of(kind: str) -> Role:
    """Return the role of the jobs ``jobs/<kind>.py``."""
    return "trainer" if kind in _TRAINER_KINDS else "publisher"


def rights(role: Role) -> dict[str, frozenset[str]]:
    """Return ``top folder -> what may be done there``, of read, write and delete; folders not named are closed."""
    found = {kind: {"read"} for kind in KINDS} | {HUB: {"read"}}
    if role != "reader":
        for kind in KINDS:
            if role == "trainer" or kind != "model":
                found[kind].add("write")
        found[WORK] = {"read", "write", "delete"}
    if role == "trainer":
        found[CHECKPOINT] = {"read", "write", "delete"}
    return {folder: frozenset(may) for folder, may in found.items()}


def policy(role: Role, *, bucket: str, prefix: str = "") -> dict[str, Any]:
    """Return the policy document of ``role`` for artifacts at ``s3://bucket/prefix``.

    Listing is allowed for the whole bucket: asking whether a bucket exists names no prefix, so a condition on one refuses it.
    """
    listing = {
        "Effect": "Allow",
        "Action": ["s3:ListBucket", "s3:GetBucketLocation"],
        "Resource": [f"arn:aws:s3:::{bucket}"],
    }
    return {"Version": "2012-10-17", "Statement": [listing, *_statements(role, bucket, prefix)]}


def _statements(role: Role, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    allowed = rights(role)
    for right, actions in (("read", _READ), ("write", _WRITE), ("delete", _DELETE)):
        folders = sorted(folder for folder, may in allowed.items() if right in may)
        if folders:
            resources = [f"arn:aws:s3:::{bucket}/{join_key(prefix, folder)}/*" for folder in folders]
            yield {"Effect": "Allow", "Action": list(actions), "Resource": resources}
