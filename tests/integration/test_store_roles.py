"""The policy of each role in a real S3 service (SeaweedFS), set through its IAM interface and checked by requests."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.cluster.access import ROLES, Role
from clinical_modernbert.cluster.checks import FOLDERS, check_access

from benchmarks.drills import auth
from tests.helpers.s3_roles import user_with_policy
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
    for name, value in {**server.environment(), **user_with_policy(server, role, prefix=PREFIX)}.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{server.bucket}/{PREFIX}")
    findings = check_access(store, role)

    assert len(findings) == 3 * len(FOLDERS)
    assert [str(finding) for finding in findings if not finding.ok] == []
    for other in set(ROLES) - {role}:
        assert not all(finding.ok for finding in check_access(store, other)), f"the keys of {role} pass for {other}"


def test_a_job_runs_with_the_keys_of_its_role_and_no_others(tmp_path: Path) -> None:
    """The short form of this part of ``make drill ROW=auth``."""
    answers = auth.Answers()
    auth.run_jobs(tmp_path, answers, names=("corpus",))
    assert answers.wrong == [] and answers.right["jobs"] == len(ROLES)


def test_keys_that_may_do_everything_are_found_out(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "jobs/check_store.py", "reader", "--root", f"s3://{server.bucket}/{PREFIX}"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1, done.stderr
    assert re.search(r"checkpoint +read +allowed +WRONG, should be refused", done.stdout)
