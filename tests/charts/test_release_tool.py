"""`make release` signs what was pushed. Docker and cosign are scripts that write down their arguments; helm is real."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.helm

DIGEST = f"sha256:{'1' * 64}"
DOCKER = f"""#!/bin/sh
echo "docker $*" >> "$LOG"
case "$1" in inspect) echo "registry.example.org/ml/x@{DIGEST}" ;; run) echo '{{"bomFormat": "CycloneDX"}}' ;; esac
"""
COSIGN = '#!/bin/sh\necho "cosign $*" >> "$LOG"\n'


def release(repository: Path, folder: Path, *arguments: str) -> tuple[str, str]:
    """Run the tool; return what it printed and what was run."""
    for name, text in (("docker", DOCKER), ("cosign", COSIGN), ("helm", HELM)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}", "LOG": str(folder / "log"), "HOME": str(folder),
        "REAL_HELM": os.environ.get("HELM", str(repository / ".tools" / "helm")),
    }  # fmt: skip
    (folder / "log").touch()
    command = [
        sys.executable,
        "tools/release.py",
        "--registry",
        "registry.example.org/ml",
        "--folder",
        str(folder / "out"),
    ]
    done = subprocess.run(
        [*command, *arguments], cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, (folder / "log").read_text()


HELM = f"""#!/bin/sh
echo "helm $1" >> "$LOG"
if [ "$1" = push ]; then echo "Digest: {DIGEST}" >&2; else exec "$REAL_HELM" "$@"; fi
"""


@pytest.fixture(autouse=True)
def _needs_helm(repository: Path) -> None:
    if not Path(os.environ.get("HELM", repository / ".tools" / "helm")).is_file():
        pytest.skip("no helm: run `python tools/fetch_helm.py`, or set HELM")


def test_a_dry_run_prints_everything_and_sends_nothing(repository: Path, tmp_path: Path) -> None:
    printed, ran = release(repository, tmp_path)

    assert ran == "helm package\n"
    for words in (
        "docker push",
        "cosign sign --yes",
        "cosign attest",
        "--type cyclonedx",
        "push",
        "oci://registry.example.org/ml/charts",
    ):
        assert words in printed
    (line,) = (tmp_path / "out" / "SHA256SUMS").read_text().splitlines()
    archive = tmp_path / "out" / "clinical-modernbert-0.1.0.tgz"
    assert line == f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  {archive.name}"


def test_publishing_signs_the_digests_that_were_pushed(repository: Path, tmp_path: Path) -> None:
    _, ran = release(repository, tmp_path, "--publish")
    lines = ran.splitlines()
    signed = [line.split()[-1] for line in lines if line.startswith("cosign sign")]

    assert signed == [
        f"registry.example.org/ml/{name}@{DIGEST}"
        for name in ("clinical-modernbert", "clinical-modernbert-gpu", "charts/clinical-modernbert")
    ]
    assert [line.split()[1] for line in lines if line.startswith("docker")] == ["build", "push", "run", "inspect"] * 2
    bill = tmp_path / "out" / "clinical-modernbert-0.1.0.cdx.json"
    assert "CycloneDX" in bill.read_text()
    assert sum(f"--predicate {bill} " in line for line in lines) == 1
    assert len((tmp_path / "out" / "SHA256SUMS").read_text().splitlines()) == 3
