"""Put the pinned ``axe-core`` into ``.tools/axe.min.js`` for the accessibility tests; it is never shipped.

npm fetches the package, whose digest is checked here. Where there is no npm nothing is fetched, and those tests skip and say so.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

AXE_VERSION = "4.14.1"
_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
AXE_PATH = Path(__file__).resolve().parents[1] / ".tools" / "axe.min.js"


def fetch(target: Path = AXE_PATH) -> Path | None:
    """Return the path of the script, fetching it where it is absent or altered; None where npm is missing."""
    if target.is_file() and _sha256(target.read_bytes()) == _SHA256:
        return target
    npm = shutil.which("npm")
    if npm is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", "--ignore-scripts", f"axe-core@{AXE_VERSION}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as package:
            member = package.extractfile("package/axe.min.js")
            assert member is not None, "package/axe.min.js is a file"
            script = member.read()
    if (found := _sha256(script)) != _SHA256:
        raise SystemExit(f"axe.min.js has sha256 {found}, pinned is {_SHA256}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_bytes(script)
    return partial.replace(target)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    found = fetch()
    sys.stdout.write(f"{found}\n" if found else "no npm on the PATH: the accessibility tests will skip\n")
