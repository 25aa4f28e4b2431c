"""Make the plan of a job on the research cluster of its release: it has keys of the store, the submitting machine may have none.

The way there is a port-forward to its head and Ray's job API, with the rights of ``rbac.submitters``. The dry run takes some
seconds and no worker. Not covered: a release without a research cluster that is ready.
"""

import json
import time
from http.client import HTTPConnection, HTTPException
from typing import Any

from clinical_modernbert.cluster.client import Cluster
from clinical_modernbert.errors import WRONG_INPUT, ClusterError

PATIENCE_S = 60.0
_PORT = 8265
_ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})


def plan_on_research(cluster: Cluster, release: str, command: str) -> str | None:
    """Refuse a job whose plan fails there for its input; return why no plan was made, or None."""
    try:
        head = cluster.research_head(release)
        if head is None:
            return f"release {release} has no research cluster that is ready"
        token = cluster.secret_value(head.secret, head.key)
        connection = cluster.http(head.pod, _PORT)
    except ClusterError as error:
        return str(error)
    return plan(connection, token=token, command=command)


def plan(connection: HTTPConnection, *, token: str, command: str, patience_s: float = PATIENCE_S) -> str | None:
    """Run ``command --dry-run`` as a job of the Ray cluster of ``connection``.

    Returns why it told nothing, or None; raises ``ClusterError`` with its message if the input is wrong.
    """
    ray = _Ray(connection, token)
    try:
        job = str(ray.call("POST", "/api/jobs/", {"entrypoint": f"{command} --dry-run"})["submission_id"])
        deadline = time.monotonic() + patience_s
        while (info := ray.call("GET", f"/api/jobs/{job}"))["status"] not in _ENDED:
            if time.monotonic() > deadline:
                ray.call("POST", f"/api/jobs/{job}/stop")
                return f"the research cluster had no answer after {patience_s:.0f} s"
            time.sleep(0.5)
    except (OSError, HTTPException, ValueError, KeyError) as error:
        return f"the research cluster does not answer ({type(error).__name__})"
    finally:
        connection.close()
    if info.get("driver_exit_code") == WRONG_INPUT:
        errors = [line for line in (info.get("message") or "").splitlines() if line.startswith("error: ")]
        reason = errors[-1].removeprefix("error: ") if errors else "its input is wrong"
        raise ClusterError(
            f"{reason} (checked on the research cluster before another one starts; --no-check skips this)"
        )
    return None if info["status"] == "SUCCEEDED" else f"the plan failed on the research cluster: ray job {job} says why"


class _Ray:
    """Ray's job API over one connection."""

    def __init__(self, connection: HTTPConnection, token: str) -> None:
        self._connection = connection
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        self._connection.request(method, path, json.dumps(body) if body else None, self._headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise HTTPException(f"status {answer.status}")
        parsed: dict[str, Any] = json.loads(text) if path == "/api/jobs/" or method == "GET" else {}
        return parsed
