"""A small shape, and an API stub with a kubeconfig that leads to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from clinical_modernbert.cluster.shape import Shape, parse_shape

from tests.unit.cluster.api_stub import ApiStub, serve_stub, write_kubeconfig

SHAPE = """
image: registry.example.org/cpu:1
gpu_image: registry.example.org/gpu:1
ray_version: 2.60.0
service_account: platform
object_store: {root: s3://bucket, endpoint: https://s3.example.org, secrets: {reader: keys, trainer: keys, publisher: keys}}
head: {cpu: "2", memory: 8Gi}
worker_groups:
  cpu: {cpu: "4", memory: 16Gi}
  a100: {cpu: "90", memory: 900Gi, gpus: 8, node_selector: {gpu: a100}, resources: {rdma/ib: 1}}
"""


@pytest.fixture
def shape() -> Shape:
    """A shape with a group of CPU workers and one of eight GPUs."""
    return parse_shape(SHAPE, origin="test")


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiStub]:
    """A running API stub that KUBECONFIG points to, with the shape of the release ``cm``."""
    with serve_stub() as stub:
        write_kubeconfig(tmp_path / "kubeconfig", stub.url, stub.token)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        stub.config_maps["cm-shape"] = {"shape.yaml": SHAPE}
        yield stub
