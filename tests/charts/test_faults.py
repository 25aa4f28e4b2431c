"""What the chart renders against faults: an autoscaler that ends, jobs that keep nodes, workers without a replica."""

import subprocess
import time
from pathlib import Path

import pytest
import yaml

from apps.encoder import ServingArgs, recipe_of
from tests.helpers.chart import CHART, Helm, Render, of_kind

pytestmark = pytest.mark.helm

SERVED = ("endpoint.enabled=true", "endpoint.model=m")


def autoscaler_command(render: Render) -> str:
    (cluster,) = of_kind(render("minimal"), "RayCluster")
    (command,) = cluster["spec"]["autoscalerOptions"]["args"]
    return command


def test_an_autoscaler_that_fails_at_its_start_is_started_again(render: Render, tmp_path: Path) -> None:
    start = tmp_path / "start"
    start.write_text(f"echo x >> {tmp_path}/starts; test $(wc -l < {tmp_path}/starts) = 3")
    command = autoscaler_command(render).replace("sleep 5", "sleep 0")
    environment = {"KUBERAY_GEN_AUTOSCALER_START_CMD": f"bash {start}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["/bin/bash", "-c", "--", command], env=environment, check=False, timeout=60)

    assert done.returncode == 0
    assert (tmp_path / "starts").read_text() == "x\nx\nx\n"


def test_an_autoscaler_stops_at_once_with_its_pod(render: Render, tmp_path: Path) -> None:
    start = tmp_path / "start"
    start.write_text(f"touch {tmp_path}/started; exec sleep 60")
    environment = {"KUBERAY_GEN_AUTOSCALER_START_CMD": f"bash {start}", "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen(["/bin/bash", "-c", "--", autoscaler_command(render)], env=environment)
    try:
        while not (tmp_path / "started").exists():
            time.sleep(0.02)
        process.terminate()
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()


def test_a_job_with_a_queue_leaves_its_nodes_soon(render: Render) -> None:
    jobs = of_kind(render("a100-2x8", "jobs.pretrain-paper.enabled=true"), "RayJob")
    (job,) = [m for m in jobs if m["metadata"]["name"] == "cmb-pretrain-paper"]

    assert job["spec"]["ttlSecondsAfterFinished"] == 300


@pytest.mark.parametrize(
    ("settings", "replicas"),
    [((), 2), (("endpoint.workers.cpu=3",), 3), (("endpoint.overrides.scaling\\.num_replicas=5",), 5)],
)
def test_every_worker_of_the_endpoint_has_a_replica(render: Render, settings: tuple[str, ...], replicas: int) -> None:
    (service,) = of_kind(render("minimal", *SERVED, *settings), "RayService")
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]

    assert application["args"]["scaling.num_replicas"] == replicas


def test_the_endpoint_serves_all_models_of_the_values(render: Render) -> None:
    below = "endpoint.overrides"
    more = (f"{below}.more_models[0]=notes", f"{below}.more_models[1].model=codes", f"{below}.aliases.encoder.notes=1")
    (service,) = of_kind(render("minimal", *SERVED, *more), "RayService")
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]

    recipe = recipe_of(ServingArgs.model_validate(application["args"]))
    assert [one.model for one in recipe.each_model()] == ["m", "notes", "codes"]
    assert recipe.aliases == {"encoder": {"notes": 1}}


def test_fewer_replicas_than_workers_are_refused(helm: Helm) -> None:
    settings = ("operatorCheck=false", *SERVED, "endpoint.overrides.scaling\\.num_replicas=1")
    sets = [part for setting in settings for part in ("--set", setting)]
    result = helm("template", "cm", str(CHART), "--values", str(CHART / "ci" / "minimal-values.yaml"), *sets)

    assert result.returncode != 0
    assert "endpoint.workers are 2 pods, and scaling.num_replicas is 1" in result.stderr


def test_the_test_pod_checks_the_model_of_the_values_and_is_deleted_after_success(render: Render) -> None:
    (pod,) = of_kind(render("minimal", *SERVED), "Pod")

    assert "--model=m" in pod["spec"]["containers"][0]["args"]
    assert "hook-succeeded" in pod["metadata"]["annotations"]["helm.sh/hook-delete-policy"]


def test_the_notes_lead_away_from_an_upgrade_over_a_failed_one() -> None:
    notes = (CHART / "templates" / "NOTES.txt").read_text(encoding="utf-8")

    assert "--rollback-on-failure" in notes and "roll back first" in notes
    assert "delete rayservice" in notes.partition("UNINSTALL")[2].partition("helm uninstall")[0]
    assert "Without --wait and --rollback-on-failure: with research.upgradeStrategy=None" in notes
