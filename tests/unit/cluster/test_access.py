"""What each role may do in the store, and its policy document."""

import json
from fnmatch import fnmatch
from typing import Any

import pytest
from clinical_modernbert.artifacts.layout import (
    ARTIFACT_KIND_OF_RECIPE,
    KINDS,
    checkpoints_prefix,
    lists_prefix,
    work_prefix,
)
from clinical_modernbert.cluster.access import CHECKPOINT, LISTS, ROLES, WORK, Role, policy, rights
from clinical_modernbert.cluster.trial_store import identities
from clinical_modernbert.errors import ClusterError


def permits(document: dict[str, Any], action: str, key: str) -> bool:
    resource = f"arn:aws:s3:::{key}"
    return any(
        action in statement["Action"] and any(fnmatch(resource, pattern) for pattern in statement["Resource"])
        for statement in document["Statement"]
    )


def test_an_evaluation_may_write_the_models_it_fine_tunes() -> None:
    assert "write" in rights("trainer")[ARTIFACT_KIND_OF_RECIPE["fine_tune"]]


def test_each_kind_of_artifact_is_written_by_one_role() -> None:
    for kind in KINDS:
        assert len([role for role in ROLES if "write" in rights(role)[kind]]) == 1, kind


def test_folders_are_those_of_the_layout() -> None:
    assert checkpoints_prefix("run").split("/")[0] == CHECKPOINT
    assert work_prefix("corpus", "id").split("/")[0] == WORK
    assert lists_prefix("icd9cm").split("/")[0] == LISTS


@pytest.mark.parametrize(
    ("role", "action", "key", "allowed"),
    [
        ("reader", "s3:GetObject", "b/p/model/demo-1/manifest.json", True),
        ("reader", "s3:PutObject", "b/p/model/demo-1/manifest.json", False),
        ("reader", "s3:GetObject", "b/p/checkpoint/run/state", False),
        ("reader", "s3:PutObject", "b/p/list/icd9cm/0123456789ab.json", True),
        ("reader", "s3:DeleteObject", "b/p/list/icd9cm/0123456789ab.json", False),
        ("publisher", "s3:PutObject", "b/p/corpus/demo-1/shard", True),
        ("publisher", "s3:PutObject", "b/p/model/demo-1/model.safetensors", False),
        ("publisher", "s3:PutObject", "b/p/evaluation/demo-1/manifest.json", False),
        ("publisher", "s3:GetObject", "b/p/checkpoint/run/state", False),
        ("trainer", "s3:PutObject", "b/p/checkpoint/run/state", True),
        ("trainer", "s3:PutObject", "b/p/corpus/demo-1/manifest.json", False),
        ("trainer", "s3:DeleteObject", "b/p/checkpoint/run/state", True),
        ("trainer", "s3:DeleteObject", "b/p/model/demo-1/manifest.json", False),
        ("trainer", "s3:PutObject", "b/q/model/demo-1/manifest.json", False),
        ("trainer", "s3:GetObject", "b/p/modelling/x", False),
    ],
)
def test_policy_allows_what_the_role_needs_and_nothing_else(role: Role, action: str, key: str, allowed: bool) -> None:
    assert permits(policy(role, bucket="b", prefix="p"), action, key) is allowed


@pytest.mark.parametrize("role", ROLES)
def test_the_guide_shows_the_policies_as_they_are(role: Role, repository: Any) -> None:
    text = (repository / "docs" / "policies" / f"{role}.json").read_text(encoding="utf-8")

    assert json.loads(text) == policy(role, bucket="BUCKET", prefix="PREFIX")


def test_the_trial_store_has_a_user_for_each_role_with_keys_and_none_of_another() -> None:
    keys = {"AWS_ACCESS_KEY_ID": "admin", "TRAINER_ACCESS_KEY_ID": "t", "TRAINER_SECRET_ACCESS_KEY": "secret"}
    made = json.loads(identities(keys, root="s3://b/p/q"))
    (user,), (named,) = made["identities"], made["policies"]

    assert user == {
        "name": "trainer",
        "credentials": [{"accessKey": "t", "secretKey": "secret"}],
        "policyNames": ["trainer"],
    }
    assert (named["name"], json.loads(named["content"])) == ("trainer", policy("trainer", bucket="b", prefix="p/q"))


@pytest.mark.parametrize(("other", "owner"), [("AWS", "the administrator"), ("PUBLISHER", "publisher")])
def test_a_key_of_two_roles_is_refused(other: str, owner: str) -> None:
    keys = {f"{name}_{part}": "same" for name in (other, "TRAINER") for part in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")}
    with pytest.raises(ClusterError, match=f"roleSecrets.trainer has the access key of {owner}: "):
        identities(keys, root="s3://b/p")
