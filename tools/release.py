"""Publish a release: both images and the chart, each signed, with the bills of materials as attestations.

python tools/release.py --registry registry.example.org/ml            prints the commands and packages the chart
python tools/release.py --registry registry.example.org/ml --publish  runs them; needs docker, helm and cosign, logged in

Signatures are cosign's and are made for digests, not tags. With an OIDC login cosign needs no key; COSIGN_KEY names one
otherwise. The bill of materials of an image is the CycloneDX file that its build wrote. ``build/release/SHA256SUMS`` lists what
was written.
"""

import argparse
import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "clinical-modernbert"
IMAGES = {"cpu": "clinical-modernbert", "gpu": "clinical-modernbert-gpu"}
_SBOM = "/usr/share/sbom/clinical-modernbert.cdx.json"
_DIGEST = "sha256:<digest>"  # in a dry run, where nothing is pushed


class Release:
    """The commands of one release; in a dry run they are printed, not run."""

    def __init__(self, registry: str, *, version: str, revision: str, folder: Path, publish: bool) -> None:
        self.registry, self.version, self.revision = registry, version, revision
        self.folder, self.publish = folder, publish

    def image(self, target: str) -> None:
        """Build, push, sign and attest one image."""
        name = f"{self.registry}/{IMAGES[target]}"
        tag, sbom = f"{name}:{self.version}", self.folder / f"{IMAGES[target]}-{self.version}.cdx.json"
        self._do("docker", "build", "--target", target, "--build-arg", f"REVISION={self.revision}", "--tag", tag, ".")
        self._do("docker", "push", tag)
        written = self._do("docker", "run", "--rm", "--entrypoint", "cat", tag, _SBOM)
        if self.publish:
            sbom.write_text(written, encoding="utf-8")
        found = self._do("docker", "inspect", "--format", "{{index .RepoDigests 0}}", tag)
        digest = found.strip().rpartition("@")[2] or _DIGEST
        self._sign(f"{name}@{digest}")
        key = _key()
        self._do("cosign", "attest", "--yes", *key, "--type", "cyclonedx", "--predicate", str(sbom), f"{name}@{digest}")

    def chart(self) -> None:
        """Package the chart, also in a dry run; push and sign it."""
        helm = os.environ.get("HELM", "helm")
        package = [helm, "package", str(CHART), "--version", self.version, "--destination", str(self.folder)]
        subprocess.run(package, check=True, stdout=subprocess.DEVNULL)
        sys.stdout.write(f"{shlex.join(package)}\n")
        archive = self.folder / f"clinical-modernbert-{self.version}.tgz"
        pushed = self._do(helm, "push", str(archive), f"oci://{self.registry}/charts")
        digest = next((line.split()[-1] for line in pushed.splitlines() if line.startswith("Digest:")), _DIGEST)
        self._sign(f"{self.registry}/charts/clinical-modernbert@{digest}")

    def sums(self) -> None:
        """Write the sha256 of each file of the release."""
        files = sorted(path for path in self.folder.iterdir() if path.name != "SHA256SUMS")
        lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
        (self.folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")

    def _sign(self, reference: str) -> None:
        self._do("cosign", "sign", "--yes", *_key(), reference)

    def _do(self, *command: str) -> str:
        """Print a command, and with ``publish`` run it and return its output."""
        sys.stdout.write(f"{shlex.join(command)}\n")
        sys.stdout.flush()
        if not self.publish:
            return ""
        # Helm writes the digest of a pushed chart to stderr.
        done = subprocess.run(
            command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        return done.stdout


def _key() -> tuple[str, ...]:
    key = os.environ.get("COSIGN_KEY")
    return ("--key", key) if key else ()


def main() -> None:
    """Publish, or print what publishing would do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--registry", required=True, help="registry and path, without a scheme")
    parser.add_argument("--publish", action="store_true", help="run the commands")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "release")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["version"]
    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True)
    release = Release(
        options.registry,
        version=version,
        revision=revision.stdout.strip(),
        folder=options.folder,
        publish=options.publish,
    )
    for target in IMAGES:
        release.image(target)
    release.chart()
    release.sums()


if __name__ == "__main__":
    main()
