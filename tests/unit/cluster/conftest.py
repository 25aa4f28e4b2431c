"""An API stub with a kubeconfig that leads to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.api_stub.server import Stub, running_stub, write_kubeconfig
from tests.helpers.rayjob import ScriptedState, config_map_data


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """A running API stub that KUBECONFIG points to, with the skeletons of the release ``cm``."""
    with running_stub(ScriptedState()) as stub:
        write_kubeconfig(tmp_path / "kubeconfig", stub)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        stub.create("configmaps", {"metadata": {"name": "cm-rayjob"}, "data": config_map_data()})
        yield stub
