"""Users of the test S3 server with the policy of a role, made through its IAM interface."""

import hashlib
import hmac
import json
import re
import time
import urllib.parse
import urllib.request
from typing import Protocol

from clinical_modernbert.cluster.access import Role, policy


class S3Server(Protocol):
    """Where a server answers, and its administrator's keys."""

    @property
    def endpoint(self) -> str: ...
    @property
    def bucket(self) -> str: ...
    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...


def user_with_policy(server: S3Server, role: Role, *, prefix: str) -> dict[str, str]:
    """Make a user with the policy of ``role`` below ``prefix`` and return the variables of its keys."""
    user = f"platform-{role}-{prefix.replace('/', '-')}"
    document = policy(role, bucket=server.bucket, prefix=prefix)
    _iam(server, Action="CreateUser", UserName=user)
    made = _iam(server, Action="CreateAccessKey", UserName=user)
    _iam(server, Action="PutUserPolicy", UserName=user, PolicyName=user, PolicyDocument=json.dumps(document))
    found = {name: re.search(f"<{name}>(.*?)</{name}>", made) for name in ("AccessKeyId", "SecretAccessKey")}
    assert all(found.values()), made
    return {"AWS_ACCESS_KEY_ID": found["AccessKeyId"][1], "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"][1]}


def _iam(server: S3Server, **fields: str) -> str:
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
