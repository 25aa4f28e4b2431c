"""Helpers of the tests, for rows and drills."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[2]


def helper_of_tests(name: str) -> ModuleType:
    """Return the module ``tests/helpers/<name>.py``."""
    # By its path: some installed packages bring a top-level `tests` of their own.
    spec = importlib.util.spec_from_file_location(f"helper_{name}", REPOSITORY / "tests" / "helpers" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by its name
    spec.loader.exec_module(module)
    return module
