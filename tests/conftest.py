"""Fixtures that every test folder shares."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real, openly licensed data: ``CLINICAL_DATA``, or ``../shared/data`` beside the checkout."""
    path = Path(os.environ.get("CLINICAL_DATA", REPOSITORY.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data: {path} does not exist (set CLINICAL_DATA to a folder in that layout)")
    return path
