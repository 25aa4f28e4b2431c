"""Build the package's wheel from a commit: the same commit gives the same bytes.

python tools/wheel.py [REVISION]      writes build/wheel/*.whl and prints its checksum

The files come from ``git archive``, not from the checkout: their modes and times are the commit's, and nothing that an earlier
build left is packed.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def build(revision: str, folder: Path) -> Path:
    """Write the wheel of ``revision`` to ``folder`` and return its path."""
    commit_time = _git("log", "-1", "--format=%ct", revision).decode().strip()
    with tempfile.TemporaryDirectory() as source:
        archive = _git("archive", revision, "pyproject.toml", "README.md", "platform")
        subprocess.run(["tar", "--extract", "--directory", source], input=archive, umask=0o022, check=True)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-build-isolation", "--wheel-dir", str(folder), source]
        # setuptools writes this time, and the modes of the files that it makes, into the wheel.
        subprocess.run(command, env={**os.environ, "SOURCE_DATE_EPOCH": commit_time}, umask=0o022, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout


def main() -> None:
    """Build one wheel and print its checksum."""
    folder = ROOT / "build" / "wheel"
    for old in folder.glob("*.whl"):
        old.unlink()
    wheel = build(sys.argv[1] if len(sys.argv) > 1 else "HEAD", folder)
    sys.stdout.write(f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
