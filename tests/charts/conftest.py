"""The real helm, the chart's presets, and a way to render."""

import os
import subprocess
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.chart import CHART, Helm, Render


@pytest.fixture(scope="session")
def helm(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Run helm with arguments, in a home of its own."""
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
