"""The policy of each role in a real S3 service (SeaweedFS), set through its IAM interface and checked by requests."""

import hashlib
import hmac
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.cluster.access import ROLES, Role, policy
from clinical_modernbert.cluster.checks import FOLDERS, check_access

from tests.helpers.s3_server import S3Server, running_s3_server

pytestmark = pytest.mark.s3

PREFIX = "hospital/production"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A separate server, because these tests add users to it."""
    with running_s3_server(tmp_path_factory.mktemp("roles")) as server:
        yield server


@pytest.mark.parametrize("role", ROLES)
def test_a_store_that_enforces_the_policy_holds_each_role_to_it(
    server: S3Server, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**server.environment(), **user_with_policy(server, role)}.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{server.bucket}/{PREFIX}")
    findings = check_access(store, role)

    assert len(findings) == 3 * len(FOLDERS)
    assert [str(finding) for finding in findings if not finding.ok] == []
    for other in set(ROLES) - {role}:
        assert not all(finding.ok for finding in check_access(store, other)), f"the keys of {role} pass for {other}"


def test_keys_that_may_do_everything_are_found_out(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "jobs/check_store.py", "reader", "--root", f"s3://{server.bucket}/{PREFIX}"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1, done.stderr
    assert re.search(r"checkpoint +read +allowed +WRONG, should be refused", done.stdout)


def user_with_policy(server: S3Server, role: Role) -> dict[str, str]:
    """Make a user with the policy of ``role`` and return the variables of its keys."""
    user = f"platform-{role}"
    document = policy(role, bucket=server.bucket, prefix=PREFIX)
    iam(server, Action="CreateUser", UserName=user)
    made = iam(server, Action="CreateAccessKey", UserName=user)
    iam(server, Action="PutUserPolicy", UserName=user, PolicyName=user, PolicyDocument=json.dumps(document))
    found = {name: re.search(f"<{name}>(.*?)</{name}>", made) for name in ("AccessKeyId", "SecretAccessKey")}
    assert all(found.values()), made
    return {"AWS_ACCESS_KEY_ID": found["AccessKeyId"][1], "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"][1]}


def iam(server: S3Server, **fields: str) -> str:
    """Send one request of AWS's IAM interface, signed as Signature Version 4 asks."""
    body = urllib.parse.urlencode({**fields, "Version": "2010-05-08"})
    host, now = server.endpoint.removeprefix("http://"), time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    digest, scope = hashlib.sha256(body.encode()).hexdigest(), f"{now[:8]}/us-east-1/iam/aws4_request"
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "host": host,
        "x-amz-content-sha256": digest,
        "x-amz-date": now,
    }
    names = ";".join(headers)
    canonical = "\n".join(["POST", "/", "", *(f"{name}:{value}" for name, value in headers.items()), "", names, digest])
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{server.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={server.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    request = urllib.request.Request(
        f"{server.endpoint}/", data=body.encode(), headers={**headers, "authorization": authorization}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return str(response.read().decode())
