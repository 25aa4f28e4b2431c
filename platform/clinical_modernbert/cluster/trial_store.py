"""Identities of the chart's trial store (SeaweedFS), one for each role that has keys of its own, with the policy of the role.

SeaweedFS reads them from a file when it starts (``-s3.config``). Helm cannot read the keys in Secrets, so an init container of
the store's pod writes the file. The administrator's keys are in the server's environment, not in the file. Not covered: MinIO,
whose users are made by requests.
"""

import json
from collections.abc import Mapping

from clinical_modernbert.cluster.access import ROLES, Role, policy
from clinical_modernbert.errors import ClusterError


def identities(variables: Mapping[str, str], *, root: str) -> str:
    """Return the file for the store at ``root`` (``s3://bucket/prefix``).

    ``variables`` are the environment: ``<ROLE>_ACCESS_KEY_ID`` and ``<ROLE>_SECRET_ACCESS_KEY`` of each role that has keys, and
    the administrator's ``AWS_ACCESS_KEY_ID``. Raises ``ClusterError`` if two of them have one access key.
    """
    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    owners = {variables.get("AWS_ACCESS_KEY_ID", ""): "the administrator"}
    users, policies = [], []
    for role in ROLES:
        key = variables.get(f"{role.upper()}_ACCESS_KEY_ID")
        if not key:
            continue
        if key in owners:
            raise ClusterError(
                f"objectStore.roleSecrets.{role} has the access key of {owners[key]}: the trial store needs one key for each role"
            )
        owners[key] = role
        secret = variables[f"{role.upper()}_SECRET_ACCESS_KEY"]
        users.append({"name": role, "credentials": [{"accessKey": key, "secretKey": secret}], "policyNames": [role]})
        policies.append(_named_policy(role, bucket=bucket, prefix=prefix))
    return json.dumps({"identities": users, "policies": policies})


def _named_policy(role: Role, *, bucket: str, prefix: str) -> dict[str, str]:
    return {"name": role, "content": json.dumps(policy(role, bucket=bucket, prefix=prefix))}
