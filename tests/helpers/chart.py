"""Where the chart lies, its presets, and the types of the fixtures that render it."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[2] / "charts" / "clinical-modernbert"
PRESETS = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))

Helm = Callable[..., subprocess.CompletedProcess[str]]
Render = Callable[..., list[dict[str, Any]]]


def preset_values(preset: str) -> dict[str, Any]:
    """The chart's values with those of a preset on top, as helm merges them."""
    return _merge(_read(CHART / "values.yaml"), _read(CHART / "ci" / f"{preset}-values.yaml"))


def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merge(base[key], value) for key, value in top.items() if isinstance(value, dict) and key in base}
    return {**base, **top, **both}
