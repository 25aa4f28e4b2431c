"""Fixtures that every test folder shares."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.helpers.s3_server import S3Server, running_s3_server

# A deadline would measure the machine, not the code.
settings.register_profile("here", deadline=None)
settings.load_profile("here")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def found_data() -> Path | None:
    """Folder of real, openly licensed data: ``CLINICAL_DATA``, or ``../shared/data`` beside the checkout; None without one."""
    path = Path(os.environ.get("CLINICAL_DATA", REPOSITORY.parent / "shared" / "data"))
    return path if path.is_dir() else None


@pytest.fixture(scope="session")
def shared_data(found_data: Path | None) -> Path:
    """Folder of real data; skips the test without one."""
    if found_data is None:
        pytest.skip("no real data: set CLINICAL_DATA to a folder in the layout of ../shared/data")
    return found_data


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A SeaweedFS server that lives as long as the test session; tests share its bucket, each below a prefix of its own."""
    with running_s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_environment(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with the variables set that ``open_store("s3://...")`` reads."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return s3_server
