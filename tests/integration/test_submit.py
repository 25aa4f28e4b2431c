"""A job as a researcher submits it, to a real cluster with token authentication, followed to its end."""

import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from clinical_modernbert.artifacts import open_store, resolve
from clinical_modernbert.cluster.checks import check_token
from clinical_modernbert.cluster.research import plan
from clinical_modernbert.errors import ClusterError

from tests.helpers.artifacts import publish_artifact
from tests.helpers.served_models import publish_model
from tests.helpers.token_cluster import TokenCluster, cluster, status_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]

__all__ = ["cluster"]  # a fixture, which pytest finds by its name

SMALL = [
    "sources=[{type: synthetic_notes, name: notes, num_documents: 40}]",
    "tokenizer={base: train, vocabulary_size: 512}",
    "lexicon.code_tables=false",
]


@dataclass(frozen=True)
class Checkout:
    """A copy of the checkout with another version number, and a way to run its ``jobs/submit.py``."""

    folder: Path
    cluster: TokenCluster

    def submit(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "jobs/submit.py", *arguments, "--address", self.cluster.address]
        return subprocess.run(
            command, cwd=self.folder, env={**self.cluster.environment, **environment}, capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip


@pytest.fixture(scope="module")
def checkout(cluster: TokenCluster, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("jobs", "platform"):
        shutil.copytree(cluster.repository / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    version = folder / "platform" / "clinical_modernbert" / "__init__.py"
    version.write_text(re.sub('"[0-9.]+"', '"9.8.7"', version.read_text()))
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    return Checkout(folder, cluster)


def test_a_submitted_bulk_job_succeeds_and_leaves_its_vectors(cluster: TokenCluster, tmp_path: Path) -> None:
    publish_model(tmp_path / "store", tmp_path / "export")
    (tmp_path / "notes.csv").write_text("note_id,note_type,text\n1,ed,chest pain\n2,icu,no acute distress\n")
    overrides = [f"input_uri=file://{tmp_path}/notes.csv", "model=tiny", "part_rows=1"]
    done = cluster.submit(
        "python", "jobs/embed.py", "embed/notes", *[part for o in overrides for part in ("--set", o)],
        "--root", f"file://{tmp_path}/store",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(r"Job 'raysubmit_\w+' succeeded", done.stdout + done.stderr)
    artifact = resolve(open_store(str(tmp_path / "store")), "embeddings", "notes")
    assert (artifact.summary["embedded"], artifact.summary["rows_of_parts"]) == (2, [1, 1])


def test_the_upload_has_the_checkout_without_the_files_that_git_ignores(cluster: TokenCluster) -> None:
    (copy, *_) = (cluster.folder / "session_latest" / "runtime_resources" / "working_dir_files").glob("_ray_pkg_*/")
    files = [path for path in copy.rglob("*") if path.is_file()]
    tops = {path.relative_to(copy).parts[0] for path in files}
    assert {"jobs", "platform", "apps", "pyproject.toml"} <= tops
    assert not tops & {".git", ".venv", ".tools", "artifacts", "build", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
    assert not [path for path in files if path.suffix == ".pyc"]
    assert sum(path.stat().st_size for path in files) < 10_000_000


def test_nothing_is_accepted_without_the_token(cluster: TokenCluster) -> None:
    assert status_of(f"{cluster.address}/api/jobs/") == 401
    assert status_of(f"{cluster.address}/nodes?view=summary") == 401


def test_an_unknown_key_ends_the_job_with_one_clear_message(cluster: TokenCluster, tmp_path: Path) -> None:
    done = cluster.submit(
        "python", "jobs/pretrain.py", "pretrain/demo", "--set", "optimizer.learning_rat=1", "--root", str(tmp_path),
        "--retries", "2",
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert done.returncode != 0 and "exit code 2" in output
    assert "attempt" not in output, "a wrong input is final"
    assert "did you mean 'optimizer.learning_rate'?" in output
    assert "Traceback" not in output


def test_the_submitted_code_runs_and_its_log_starts_with_its_version(checkout: Checkout, tmp_path: Path) -> None:
    """The uploaded package takes precedence over the installed one, on the driver and on the workers."""
    overrides = [part for override in SMALL for part in ("--set", override)]
    done = checkout.submit("build_corpus", "corpus/demo", *overrides, "--root", f"file://{tmp_path}")
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]

    lines = [line for line in done.stdout.splitlines() if "clinical_modernbert.job" in line]
    assert re.search(r"clinical-modernbert 9\.8\.7, commit [0-9a-f]{12}, from \S+/_ray_pkg_\w+/", lines[0]), lines
    corpus = resolve(open_store(str(tmp_path)), "corpus", "demo")
    assert corpus.manifest.code_version == "9.8.7"
    assert corpus.summary["sources"]["notes"]["records"] == 40
    assert corpus.folder("tokenizer").is_dir()
    assert f"fingerprint {corpus.manifest.fingerprint}, output {corpus.uri}" in lines[1]
    assert done.stderr.index("commit") < done.stderr.index("submitted raysubmit_")


def test_a_submitted_job_can_be_cancelled(checkout: Checkout, tmp_path: Path) -> None:
    many = ["--set", "sources=[{type: synthetic_notes, name: notes, num_documents: 50000}]"]
    sent = checkout.submit("build_corpus", "corpus/demo", *many, "--root", f"file://{tmp_path}", "--no-follow")
    found = re.search(r"submitted (raysubmit_\w+)", sent.stderr)
    assert found, sent.stderr
    stopped = checkout.submit("cancel", found[1])
    assert stopped.returncode == 0 and f"{found[1]} is stopping" in stopped.stderr, stopped.stderr

    status = ["ray", "job", "status", "--address", checkout.cluster.address, found[1]]
    deadline = time.monotonic() + 60  # Ray gives the driver some seconds to end
    while True:
        done = subprocess.run(
            status, env=checkout.cluster.environment, capture_output=True, text=True, check=False, timeout=60
        )
        said = done.stdout + done.stderr
        if re.search(r"STOPPED|stopped", said):
            break
        assert "RUNNING" in said and time.monotonic() < deadline, said
        time.sleep(0.5)
    assert "had already ended" in checkout.submit("cancel", found[1]).stderr


def test_a_relative_root_fails_the_job_because_it_would_be_deleted_with_it(checkout: Checkout) -> None:
    done = checkout.submit("pretrain", "pretrain/demo")
    assert done.returncode == 2 and "is wrong, its log says why" in done.stderr
    assert "a submitted job's working directory is deleted after it" in done.stdout + done.stderr


def test_a_wrong_recipe_and_a_missing_token_are_refused_with_a_reason(checkout: Checkout) -> None:
    wrong = checkout.submit("pretrain", "pretrain/demo", "--set", "optimizer.learning_rat=1")
    assert wrong.returncode == 2 and "did you mean 'optimizer.learning_rate'?" in wrong.stderr
    assert "submitted" not in wrong.stderr
    locked_out = checkout.submit("pretrain", "pretrain/demo", RAY_AUTH_MODE="disabled", RAY_AUTH_TOKEN_PATH="")
    assert locked_out.returncode == 2 and "Traceback" not in locked_out.stderr
    assert "RAY_AUTH_TOKEN" in locked_out.stderr


def test_a_plan_is_made_on_a_running_cluster(cluster: TokenCluster, tmp_path: Path) -> None:
    """A name that means two artifacts is refused with the job's own message; a finished input is not."""
    token = Path(cluster.environment["RAY_AUTH_TOKEN_PATH"]).read_text()

    def planned(token: str) -> str | None:
        connection = HTTPConnection(urlsplit(cluster.address).netloc)
        command = f"cd {cluster.repository}; {sys.executable} jobs/map_codes.py map/demo --root {tmp_path}/store"
        return plan(connection, token=token, command=command)

    store = open_store(str(tmp_path / "store"))
    publish_artifact(store, "model", "demo-1", tmp_path)
    assert planned(token) is None
    assert planned("wrong") == "the research cluster does not answer (HTTPException)"
    publish_artifact(store, "model", "demo-2", tmp_path)
    with pytest.raises(ClusterError, match=r"model 'demo' is ambiguous in .* \(checked on the research cluster"):
        planned(token)


def test_the_check_of_an_installation_takes_the_real_token(cluster: TokenCluster) -> None:
    token = Path(cluster.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    assert "accepts them with it" in check_token(cluster.address, token)
    with pytest.raises(ClusterError, match="the Secret belongs to another cluster"):
        check_token(cluster.address, "wrong")
