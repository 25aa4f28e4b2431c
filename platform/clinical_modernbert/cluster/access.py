"""What each role may do in the object store, as the policy document of S3 services.

There are three roles. A ``reader`` (explorer, endpoint) reads artifacts, and saves the code lists of the explorer's users. A
``publisher`` also writes what jobs of data make, and cannot read training state, which is pickle. A ``trainer`` also writes what
jobs of models make, and checkpoints. Neither writes what the other makes, and no role deletes artifacts: the platform team does.
These are pure functions over the layout; the store enforces the policies, and ``checks.check_access`` tests whether it does.
"""

from collections.abc import Iterator
from typing import Literal, TypedDict, get_args

from clinical_modernbert.artifacts.layout import KINDS
from clinical_modernbert.artifacts.store import join_key


class Statement(TypedDict):
    """One permission, in the words of AWS's policy language."""

    Effect: Literal["Allow"]
    Action: list[str]
    Resource: list[str]


class Policy(TypedDict):
    """An AWS policy document."""

    Version: str
    Statement: list[Statement]


Role = Literal["reader", "publisher", "trainer"]
ROLES: tuple[Role, ...] = get_args(Role)

_MADE_BY: dict[Role, tuple[str, ...]] = {
    "reader": (),
    "publisher": ("corpus", "pairs", "map", "embeddings", "spans"),
    "trainer": ("model", "sweep", "evaluation"),  # an evaluation also makes the models that it fine-tunes
}
# Top folders that do not belong to a kind of artifact.
CHECKPOINT, WORK, HUB, LISTS = "checkpoint", "work", "hub", "list"
_READ, _WRITE, _DELETE = ("s3:GetObject",), ("s3:PutObject", "s3:AbortMultipartUpload"), ("s3:DeleteObject",)


def rights(role: Role) -> dict[str, frozenset[str]]:
    """Return ``top folder -> allowed rights``, of read, write and delete; a folder that is not named is closed."""
    allowed = {kind: {"read"} for kind in KINDS} | {HUB: {"read"}, LISTS: {"read", "write"}}
    for kind in _MADE_BY[role]:
        allowed[kind].add("write")
    if role != "reader":
        allowed[WORK] = {"read", "write", "delete"}
    if role == "trainer":
        allowed[CHECKPOINT] = {"read", "write", "delete"}
    return {folder: frozenset(may) for folder, may in allowed.items()}


def policy(role: Role, *, bucket: str, prefix: str = "") -> Policy:
    """Return the policy document of ``role`` for artifacts at ``s3://bucket/prefix``.

    Listing is allowed for the whole bucket: a request whether the bucket exists has no prefix, so a condition on one refuses it.
    """
    listing: Statement = {
        "Effect": "Allow",
        "Action": ["s3:ListBucket", "s3:GetBucketLocation"],
        "Resource": [f"arn:aws:s3:::{bucket}"],
    }
    return {"Version": "2012-10-17", "Statement": [listing, *_statements(role, bucket, prefix)]}


def _statements(role: Role, bucket: str, prefix: str) -> Iterator[Statement]:
    allowed = rights(role)
    for right, actions in (("read", _READ), ("write", _WRITE), ("delete", _DELETE)):
        folders = sorted(folder for folder, may in allowed.items() if right in may)
        if folders:
            resources = [f"arn:aws:s3:::{bucket}/{join_key(prefix, folder)}/*" for folder in folders]
            yield {"Effect": "Allow", "Action": list(actions), "Resource": resources}
