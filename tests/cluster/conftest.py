"""The cluster, a researcher of it, and a namespace that starts empty."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.kits.cluster import Cluster
from benchmarks.kits.cluster_release import delete_namespace
from tests.helpers.explorer_browser import chromium

__all__ = ["chromium"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster of ``KUBECONFIG`` for its administrator; the namespace is deleted before and after, also after a failure.

    With ``KEEP_CLUSTER_TEST`` it is not: to look at what a failed test left, or to run one file on the release of an earlier run.
    """
    path = os.environ.get("KUBECONFIG")
    if not path:
        assert not os.environ.get("REQUIRE_CLUSTER"), "REQUIRE_CLUSTER is set, and KUBECONFIG is not"
        pytest.skip("no cluster: set KUBECONFIG to that of a cluster with KubeRay's operator (CONTRIBUTING.md)")
    cluster = Cluster(kubeconfig=Path(path).resolve(), folder=tmp_path_factory.mktemp("cluster"))
    for tool in ("kubectl", "helm", "openssl"):
        assert shutil.which(tool, path=cluster.environment["PATH"]), f"no {tool}: `make .tools/helm`, or put it on PATH"
    assert "rayjobs.ray.io" in cluster.kubectl("get", "crd", "--output", "name"), "the cluster has no KubeRay operator"
    keep = bool(os.environ.get("KEEP_CLUSTER_TEST"))
    if not keep:
        delete_namespace(cluster)
    yield cluster
    if not keep:
        delete_namespace(cluster)


@pytest.fixture(scope="session")
def researcher(cluster: Cluster) -> Cluster:
    """The cluster for a user whose only rights are those of ``rbac.submitters``."""
    return cluster.person("rita", "researchers")
