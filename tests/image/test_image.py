"""The cpu image, built by buildah on a minimal Debian, and a job of the demo in it: user 1000, a read-only root, no network.

It is not in the default run: it takes minutes and needs root and Debian's ``buildah`` and ``debootstrap``. Run it by
``make image-test``. The base replaces the published one, which cannot be pulled everywhere: the tests cover the layers that this
project adds.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.image, pytest.mark.slow, pytest.mark.timeout(1800)]

NAME = "localhost/clinical-modernbert:test"
# Mounts the volumes of the chart's pods, makes everything else read-only, and runs as user 1000 without a network.
ENTER = """
set -e
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/dev"
for device in null zero random urandom; do : > "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
mkdir "$root/dev/shm"; mount -t tmpfs -o mode=1777,size=2g tmpfs "$root/dev/shm"
for folder in tmp home/ray; do mount -t tmpfs -o uid=1000,gid=1000,size=2g tmpfs "$root/$folder"; done
ip link set lo up
exec chroot --userspec=1000:1000 "$root" env -i "$@"
"""
SMALL = [
    "sources=[{type: synthetic_notes, name: notes, num_documents: 40}]",
    "tokenizer={base: train, vocabulary_size: 512}",
    "lexicon.code_tables=false",
]


@dataclass(frozen=True)
class Image:
    """A built image: its settings, its files, and a way to run a command in it."""

    settings: dict[str, object]
    root: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run ``command`` as a pod of the chart would."""
        variables = [str(variable) for variable in self.settings["Env"]]
        inside = ["unshare", "--mount", "--pid", "--fork", "--net", "bash", "-c", ENTER, "enter", str(self.root)]
        shell = ["sh", "-c", f'cd {self.settings["WorkingDir"]} && exec "$@"', "sh"]
        return subprocess.run(
            [*inside, *variables, *shell, *command], capture_output=True, text=True, timeout=600, check=False
        )


@pytest.fixture(scope="module")
def image(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    for tool in ("buildah", "debootstrap", "unshare"):
        if shutil.which(tool) is None or os.geteuid():
            pytest.skip(f"needs root and {tool}: apt-get install buildah crun debootstrap")
    folder = tmp_path_factory.mktemp("image")
    store = ["--root", str(folder / "store"), "--runroot", str(folder / "run"), "--storage-driver", "overlay"]

    def buildah(*arguments: str) -> str:
        done = subprocess.run(
            ["buildah", *store, *arguments], cwd=repository, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout.strip()

    try:
        make_base(folder)
        buildah("bud", "--file", str(folder / "Base.Dockerfile"), "--tag", "localhost/base:test", str(folder))
        wheels = Path(os.environ.get("PIP_FIND_LINKS", ""))
        mounts = ["--volume", f"{wheels}:{wheels}:ro"] if wheels.is_absolute() and wheels.is_dir() else []
        buildah(
            "bud", "--isolation", "chroot", "--format", "docker", "--pull-never", "--target", "cpu", "--tag", NAME, *mounts,
            "--build-arg", "BASE=localhost/base:test", "--build-arg", "VERSION=0.1.0", "--build-arg", "REVISION=abc123", ".",
        )  # fmt: skip
        container = buildah("from", "--pull-never", NAME)
        settings = json.loads(buildah("inspect", "--type", "image", NAME))["Docker"]["config"]
        yield Image(settings, Path(buildah("mount", container)))
        buildah("umount", container)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_base(folder: Path) -> None:
    """Write a Dockerfile for a minimal Debian with Python and this machine's package index."""
    root = folder / "root"
    packages = "python3,python3-venv,ca-certificates"
    mirror = os.environ.get("DEBIAN_MIRROR")
    command = [
        "debootstrap",
        "--variant=minbase",
        f"--include={packages}",
        "bookworm",
        str(root),
        *([mirror] if mirror else []),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    authorities = Path("/etc/ssl/certs/ca-certificates.crt")
    shutil.copyfile(authorities, root / authorities.relative_to("/"))
    settings = {name: os.environ.get(f"PIP_{name.upper().replace('-', '_')}") for name in ("index-url", "find-links")}
    lines = [f"{name} = {value}" for name, value in settings.items() if value]
    (root / "etc" / "pip.conf").write_text("\n".join(["[global]", f"cert = {authorities}", *lines, ""]))
    subprocess.run(["tar", "-C", str(root), "-cf", str(folder / "root.tar"), "."], check=True)
    shutil.rmtree(root)
    (folder / "Base.Dockerfile").write_text("FROM scratch\nADD root.tar /\n")


def test_it_says_what_it_is_and_runs_as_user_1000(image: Image) -> None:
    labels = image.settings["Labels"]
    assert isinstance(labels, dict)
    assert image.settings["User"] == "1000:1000"
    assert labels["org.opencontainers.image.version"] == "0.1.0"
    assert labels["org.opencontainers.image.revision"] == "abc123"
    assert image.run("id", "-u").stdout.strip() == "1000"


def test_it_has_no_compiler_and_no_way_to_more_rights(image: Image) -> None:
    for tool in ("gcc", "g++", "cc", "clang", "nvcc", "sudo"):
        assert image.run("which", tool).returncode != 0, tool
    found = image.run("find", "/opt/venv", "/app", "-perm", "/6000").stdout
    assert found == ""


def test_its_root_cannot_be_written(image: Image) -> None:
    for path in ("/x", "/app/x", "/opt/venv/x", "/etc/x"):
        assert "Read-only file system" in image.run("touch", path).stderr
    assert image.run("touch", "/tmp/x", "/home/ray/x", "/dev/shm/x").returncode == 0


def test_its_modules_are_compiled(image: Image) -> None:
    """Processes write no bytecode: without it each one of a pod would compile all that it imports."""
    modules = "ray, torch, clinical_modernbert"
    compiled = f"[os.path.exists(importlib.util.cache_from_source(m.__file__)) for m in ({modules})]"
    code = f"import {modules}, importlib.util, os; print({compiled})"
    assert image.run("python", "-c", code).stdout.strip() == "[True, True, True]"


def test_its_bill_of_materials_names_what_it_holds(image: Image, repository: Path) -> None:
    labels = image.settings["Labels"]
    assert isinstance(labels, dict)
    bill = json.loads((image.root / labels["io.clinical-modernbert.sbom"].lstrip("/")).read_text())
    versions = {part["name"].lower(): part["version"] for part in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX"
    assert versions["clinical-modernbert"] == "0.1.0"
    assert {"torch", "ray", "deepspeed", "streamlit", "kubernetes"} <= versions.keys()
    assert "cyclonedx-bom" not in versions


def test_a_job_of_the_demo_runs_in_it(image: Image) -> None:
    overrides = [part for override in SMALL for part in ("--set", override)]
    done = image.run("python", "jobs/build_corpus.py", "corpus/demo", *overrides, "--root", "file:///tmp/store")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "clinical-modernbert 0.1.0, commit abc123, from /opt/venv/" in done.stderr
    assert done.stdout.startswith("file:///tmp/store/corpus/demo-")


def test_deepspeed_loads_without_a_compiler(image: Image) -> None:
    done = image.run("python", "-c", "import deepspeed, torch; print(torch.__version__)")
    assert done.returncode == 0, done.stderr[-3000:]
