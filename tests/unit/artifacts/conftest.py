"""A store in a temporary folder, and a way to publish small artifacts into it."""

from pathlib import Path

import pytest
from clinical_modernbert.artifacts import Store, open_store

from tests.helpers.artifacts import publish

__all__ = ["publish"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/store")
