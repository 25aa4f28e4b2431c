"""Requests without the right key: to each route of the endpoint, to a Ray cluster with a token, and to the store by each role.

The endpoint must answer 401 to no key, a wrong, an empty, an expired and a revoked one, and 403 to a key of another scope. Ray's
dashboard must answer 401 or 403 to each path without its token. The store, a real S3 server with a key for each role, must refuse
each right in each folder that the role does not need, and grant the others. Each kind of job must run with the keys of the role
that makes its artifact, and with those of another end with status 2 and one line, and publish nothing. ``wrong`` counts what
differs. The roles of Kubernetes are tested on a real cluster (``tests/cluster``).
"""

import asyncio
import hashlib
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts import open_store
from clinical_modernbert.cluster.access import ROLES, Role
from clinical_modernbert.cluster.checks import check_access
from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.serving.api import build_api
from clinical_modernbert.serving.engine import load_engine
from clinical_modernbert.serving.key_ring import KeyRing
from clinical_modernbert.serving.keys import FILE_VARIABLE
from clinical_modernbert.serving.service import EmbeddingService

from benchmarks.drill import Outcome
from benchmarks.kits.store_jobs import JOBS, is_whole
from benchmarks.kits.tests import REPOSITORY, helper_of_tests

_SCOPE = {"/fill-mask": "fill-mask", "/predict": "predict", "/token-classify": "predict"}
_ANY_KEY = ("/info", "/v1/models", "/v1/models/{model_id}")
_OPEN = ("/health", "/ping", "/openapi.json")
_RAY_PATHS = (
    ("GET", "/"),
    ("GET", "/api/version"),
    ("GET", "/api/jobs/"),
    ("POST", "/api/jobs/"),
    ("POST", "/api/jobs/raysubmit_1/stop"),
    ("DELETE", "/api/jobs/raysubmit_1"),
    ("GET", "/api/jobs/raysubmit_1/logs"),
    ("GET", "/nodes?view=summary"),
    ("GET", "/logical/actors"),
    ("GET", "/api/v0/tasks"),
    ("GET", "/api/v0/logs"),
    ("GET", "/api/cluster_status"),
    ("GET", "/api/serve/applications/"),
    ("PUT", "/api/serve/applications/"),
    ("PUT", "/api/packages/gcs/_ray_pkg_1.zip"),
    ("GET", "/worker/traceback?pid=1"),
)


@dataclass(slots=True)
class Answers:
    """Answers that were as they must be, and those that were not."""

    right: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def count(self, what: str, name: str, *, is_right: bool) -> None:
        """Count an answer to the case ``name`` of ``what``."""
        if is_right:
            self.right[what] += 1
        else:
            self.wrong.append(f"{what}: {name}")


def run(scratch: Path, seed: int) -> Outcome:
    """Ask endpoint, store and Ray cluster."""
    answers = Answers()
    helper_of_tests("served_models").publish_model(scratch / "store", scratch / "export")
    ask_endpoint(scratch / "store", scratch, answers)
    _ask_store(scratch, answers)
    run_jobs(scratch / "jobs", answers)
    _ask_ray(scratch, answers)
    return outcome(answers)


def outcome(answers: Answers) -> Outcome:
    """Return the counts."""
    right = answers.right.total()
    return Outcome(
        injected=right + len(answers.wrong),
        recovered=right,
        lost=0,
        wrong=len(answers.wrong),
        facts={"right": dict(answers.right), "wrong": answers.wrong},
    )


def ask_endpoint(store: Path, scratch: Path, answers: Answers) -> None:
    """Send each route requests with every kind of key; the good key must pass the gate."""
    keys = {"good": "", "vectors": " embed", "masks": " fill-mask", "old": " expires=2020-01-01", "left": ""}
    path, clock = scratch / "keys", [0.0]
    path.write_text(_lines(keys))
    ring = KeyRing.from_environment({FILE_VARIABLE: str(path)}, required=True)
    ring = KeyRing(ring.accepted(), path=path, clock=lambda: clock[0])
    recipe = ServeRecipe.model_validate({"name": "tiny", "model": "tiny"})
    service = EmbeddingService(load_engine(str(store), recipe))
    app, answer_of = build_api(service, keys=ring), helper_of_tests("asgi").answer_of

    def status(method: str, route: str, header: str | None) -> int:
        headers = {} if header is None else {"authorization": header}
        found: int = asyncio.run(answer_of(app, method, route, {"inputs": "x"}, headers=headers))[0]
        return found

    try:
        page = json.loads(
            asyncio.run(answer_of(app, "GET", "/openapi.json", headers={"authorization": "Bearer k-good"}))[2]
        )
        routes = [(method.upper(), route) for route, methods in page["paths"].items() for method in methods]
        routes = [(method, route) for method, route in routes if route not in _OPEN]
        assert status("GET", "/info", "Bearer k-left") == 200
        path.write_text(_lines({name: options for name, options in keys.items() if name != "left"}))
        os.utime(path, (time.time() + 10, time.time() + 10))
        clock[0] += 60
        bad = {"no key": None, "empty": "Bearer ", "wrong": "Bearer k-goof", "other scheme": "Basic k-good"}
        bad |= {"expired": "Bearer k-old", "revoked": "Bearer k-left", "two keys": "Bearer k-good, k-vectors"}
        for method, route in [*routes, ("GET", "/unknown"), ("POST", "/embed/")]:
            for name, header in bad.items():
                found = status(method, route, header)
                answers.count("endpoint", f"{method} {route} with {name}: {found}", is_right=found == 401)
        for method, route in routes:
            other = "vectors" if route in _SCOPE else "masks"
            found = status(method, route, f"Bearer k-{other}")
            is_right = (found != 403) if route in _ANY_KEY else (found == 403)
            answers.count("endpoint", f"{method} {route} with {other}: {found}", is_right=is_right)
            found = status(method, route, "Bearer k-good")
            answers.count("endpoint", f"{method} {route} with good: {found}", is_right=found not in (401, 403))
    finally:
        service.close()


def _lines(keys: dict[str, str]) -> str:
    return "\n".join(f"{n} {hashlib.sha256(f'k-{n}'.encode()).hexdigest()}{options}" for n, options in keys.items())


def _ask_store(scratch: Path, answers: Answers) -> None:
    (folder := scratch / "s3").mkdir()
    roles = helper_of_tests("s3_roles")
    with helper_of_tests("s3_server").running_s3_server(folder) as server:
        before = dict(os.environ)
        for role in ROLES:
            os.environ.update({**server.environment(), **roles.user_with_policy(server, role, prefix="drill")})
            for finding in check_access(open_store(f"s3://{server.bucket}/drill"), role):
                answers.count("store", f"{role}: {finding}", is_right=finding.ok)
        for name in set(server.environment()):
            os.environ.pop(name, None)
        os.environ.update(before)


_MAKERS: dict[str, Role] = dict.fromkeys(("corpus", "pairs", "map", "embeddings", "spans"), "publisher")
_MAKERS |= dict.fromkeys(("model", "sweep", "evaluation"), "trainer")
_REFUSED = re.compile(r"^error: .*s3://\S+: writing \S+ failed with AccessDenied", re.MULTILINE)


def run_jobs(scratch: Path, answers: Answers, *, names: Sequence[str] = tuple(JOBS)) -> None:
    """Run each job with the keys of each role, each time on a store of its own; the makers are stated here, not looked up."""
    (folder := scratch / "s3").mkdir(parents=True)
    roles, before = helper_of_tests("s3_roles"), dict(os.environ)
    with helper_of_tests("s3_server").running_s3_server(folder) as server:
        os.environ.update(server.environment())
        for job_name in names:
            for role in ROLES:
                job, name = JOBS[job_name], f"{job_name} by {role}"
                store = open_store(f"s3://{server.bucket}/{job_name}-{role}")
                job.prepare(store, scratch)
                end = job.run(scratch, store, roles.user_with_policy(server, role, prefix=f"{job_name}-{role}"))
                if role == _MAKERS[job.kind]:
                    made = job.made(store)
                    answers.count(
                        "jobs", f"{name}: {end}", is_right=end.status == 0 and made is not None and is_whole(made)
                    )
                else:
                    found = job.problems(end, store, name, statuses=(2,), error=_REFUSED)
                    answers.count("jobs", "; ".join(found), is_right=not found)
        for name in server.environment():
            os.environ.pop(name, None)
        os.environ.update(before)


def _ask_ray(scratch: Path, answers: Answers) -> None:
    (folder := scratch / "cluster").mkdir()
    with helper_of_tests("token_cluster").running_token_cluster(REPOSITORY, folder) as cluster:
        token = Path(cluster.environment["RAY_AUTH_TOKEN_PATH"]).read_text().strip()
        bad = {
            "no token": {},
            "a wrong token": {"Authorization": f"Bearer {token[::-1]}"},
            "an empty one": {"Authorization": "Bearer "},
        }
        for method, path in _RAY_PATHS:
            for name, headers in bad.items():
                found = _status(method, cluster.address + path, headers)
                is_right = found in (401, 403) or (path == "/" and found == 200)  # the page's own script has no data
                answers.count("ray", f"{method} {path} with {name}: {found}", is_right=is_right)
        found = _status("GET", f"{cluster.address}/api/jobs/", {"Authorization": f"Bearer {token}"})
        answers.count("ray", f"GET /api/jobs/ with the token: {found}", is_right=found == 200)


def _status(method: str, url: str, headers: dict[str, Any]) -> int:
    data = b'{"entrypoint": "true"}' if method in ("POST", "PUT") else None
    request = urllib.request.Request(
        url, data=data, method=method, headers={"Content-Type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
