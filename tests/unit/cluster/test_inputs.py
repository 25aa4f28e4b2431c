"""What a job needs from the store is looked for before a cluster starts, on machines that can read the store."""

import logging
from pathlib import Path

import pytest
import yaml
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.cluster.client import Cluster, Head
from clinical_modernbert.cluster.command import main
from clinical_modernbert.cluster.inputs import check_inputs
from clinical_modernbert.recipe import MapRecipe, load_recipe

from tests.helpers.api_stub.server import Stub
from tests.helpers.artifacts import publish_artifact
from tests.helpers.rayjob import config_map_data, skeleton


@pytest.mark.parametrize(("num_models", "refusal"), [(0, "no model 'demo' in"), (1, ""), (2, "'demo' is ambiguous in")])
def test_inputs_are_looked_for_before_a_cluster_starts(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str], num_models: int, refusal: str
) -> None:
    store = open_store(str(tmp_path / "store"))
    for number in range(num_models):
        publish_artifact(store, "model", f"demo-{number}", tmp_path)
    with_root = skeleton()
    head = with_root["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    head["env"].append({"name": "ARTIFACT_ROOT", "value": str(tmp_path / "store")})
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(with_root), encoding="utf-8")
    command = ["map_codes", "map/demo", "--skeleton", str(tmp_path / "job.yaml"), "--namespace", "ml"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--workers", "cpu=1", "--name", "run", "--no-follow"])

    assert ended.value.code == (2 if refusal else 0)
    assert refusal in capsys.readouterr().err
    assert len(stub.state.list("rayjobs")) == (0 if refusal else 1)


def test_without_keys_the_research_cluster_is_asked_and_its_absence_is_said(
    stub: Stub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    data = yaml.safe_load(config_map_data()["trainer.yaml"])
    data["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "ARTIFACT_ROOT", "value": "s3://bucket"}
    ]
    recipe = load_recipe(MapRecipe, "map/demo")
    assert "this machine has no keys of s3://bucket" in (check_inputs(recipe, data) or "")

    published = {**config_map_data(), "trainer.yaml": yaml.safe_dump(data)}
    stub.state.change(("configmaps", "ml", "cm-rayjob"), lambda old: {**old, "data": published})
    command = [
        "pretrain",
        "pretrain/demo",
        "--release",
        "cm",
        "--namespace",
        "ml",
        "--workers",
        "cpu=1",
        "--name",
        "run",
    ]
    with caplog.at_level(logging.INFO), pytest.raises(SystemExit) as ended:
        main([*command, "--no-follow"])
    assert ended.value.code == 0
    assert "before the cluster starts: release cm has no research cluster that is ready" in caplog.text


def test_the_head_of_the_research_cluster_is_found_with_its_token(stub: Stub) -> None:
    token = {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": {"name": "cm-research", "key": "auth_token"}}}
    labels = {"ray.io/cluster": "cm-research", "ray.io/node-type": "head"}
    pod = {"metadata": {"name": "h", "labels": labels}, "spec": {"containers": [{"name": "ray-head", "env": [token]}]}}
    cluster = Cluster.connect(namespace="ml")
    stub.create("pods", {**pod, "status": {"phase": "Pending"}})
    assert cluster.research_head("cm") is None
    stub.set_status("pods", "h", {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
    assert cluster.research_head("cm") == Head(pod="h", secret="cm-research", key="auth_token")
    assert cluster.research_head("other") is None
