"""The chart, its presets, the real helm, and fixtures that render it."""

import os
import subprocess
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).resolve().parents[2] / "charts" / "clinical-modernbert"
PRESETS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))

Helm = Callable[..., subprocess.CompletedProcess[str]]
Render = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def helm(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Run helm with arguments, in its own home."""
    binary = Path(os.environ.get("HELM", repository / ".tools" / "helm"))
    if not binary.is_file():
        pytest.skip(f"no helm at {binary}: run `python tools/fetch_helm.py`, or set HELM")
    home = tmp_path_factory.mktemp("helm")
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "KUBECONFIG": str(home / "none")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(binary), *arguments], capture_output=True, text=True, env=environment, timeout=60, check=False
        )

    return run


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    """Render a preset with further ``--set`` arguments into manifests."""

    def run(preset: str = "minimal", *settings: str, release: str = "cm") -> list[dict[str, Any]]:
        return deepcopy(rendered(preset, settings, release))

    @cache
    def rendered(preset: str, settings: tuple[str, ...], release: str) -> list[dict[str, Any]]:
        values = str(CHART / "ci" / f"{preset}-values.yaml")
        sets = [part for setting in ("operatorCheck=false", *settings) for part in ("--set", setting)]
        result = helm("template", release, str(CHART), "--namespace", "ml", "--values", values, *sets)
        assert result.returncode == 0, result.stderr
        return [document for document in yaml.load_all(result.stdout, yaml.CSafeLoader) if document]

    return run


def preset_values(preset: str) -> dict[str, Any]:
    """The chart's values with those of a preset on top, as helm merges them."""
    return _merge(_read(CHART / "values.yaml"), _read(CHART / "ci" / f"{preset}-values.yaml"))


def of_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The objects of one kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def no_less_than_it_may_use(container: dict[str, Any]) -> bool:
    """Whether a container requests its limits, and beyond them disk only; the submitter is scheduled last and requests little."""
    requests = dict(container["resources"]["requests"])
    requests.pop("ephemeral-storage", None)
    return container["name"] == "ray-job-submitter" or bool(requests == container["resources"]["limits"])


def skeletons(manifests: list[dict[str, Any]]) -> dict[str, str]:
    """The data of the ConfigMap that jobs/submit.py reads."""
    (config_map,) = [m for m in of_kind(manifests, "ConfigMap") if m["metadata"]["name"].endswith("-rayjob")]
    data: dict[str, str] = config_map["data"]
    return data


def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merge(base[key], value) for key, value in top.items() if isinstance(value, dict) and key in base}
    return {**base, **top, **both}
