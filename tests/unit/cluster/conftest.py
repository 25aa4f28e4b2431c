"""A small shape, and an API stub with a kubeconfig that leads to it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.cluster.settings import Shape, parse_shape

from tests.helpers.api_stub.server import Stub, running_stub, write_kubeconfig
from tests.helpers.api_stub.state import Object, State

SHAPE = """
image: registry.example.org/cpu:1
gpu_image: registry.example.org/gpu:1
ray_version: 2.60.0
service_account: platform
object_store:
  root: s3://bucket
  endpoint: https://s3.example.org
  secrets: {reader: reader-keys, trainer: trainer-keys, publisher: publisher-keys}
head: {cpu: "2", memory: 8Gi}
worker_groups:
  cpu: {cpu: "4", memory: 16Gi}
  a100: {cpu: "90", memory: 900Gi, gpus: 8, node_selector: {gpu: a100}, resources: {rdma/ib: 1}}
"""


@pytest.fixture
def shape() -> Shape:
    """A shape with a group of CPU workers and one of eight GPUs."""
    return parse_shape(SHAPE, origin="test")


class ScriptedState(State):
    """Hands out ``states`` as the status of a RayJob, one at each look, the last for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[dict[str, Any]] = [{}]

    def get(self, plural: str, namespace: str, name: str) -> Object:
        found = super().get(plural, namespace, name)
        if plural == "rayjobs":
            found["status"] = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return found


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """A running API stub that KUBECONFIG points to, with the shape of the release ``cm``."""
    with running_stub(ScriptedState()) as stub:
        write_kubeconfig(tmp_path / "kubeconfig", stub)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        stub.create("configmaps", {"metadata": {"name": "cm-shape"}, "data": {"shape.yaml": SHAPE}})
        yield stub
