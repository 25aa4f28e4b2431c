"""The values are documented and checked, and missing or wrong values are refused before anything is sent."""

import importlib.util
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from clinical_modernbert.recipe import load_recipe
from clinical_modernbert.recipe.loader import RECIPE_TYPES
from clinical_modernbert.recipe.pretrain import PretrainRecipe

from tests.helpers.chart import CHART, PRESETS, Helm, Render, preset_values

RECIPE_KIND = {"build_corpus": "corpus", "build_pairs": "pairs", "map_codes": "map"}
MINIMAL = str(CHART / "ci" / "minimal-values.yaml")


@pytest.fixture(scope="module")
def chart_readme(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("chart_readme", repository / "tools" / "chart_readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_value_is_described_by_a_sentence(chart_readme: ModuleType) -> None:
    described = chart_readme.describe_values((CHART / "values.yaml").read_text(encoding="utf-8"))

    assert len(described) > 60
    assert [key for key, (_, text, _) in described.items() if not text or not text.endswith(".")] == []


def test_readme_lists_the_values_as_they_are(chart_readme: ModuleType) -> None:
    readme = (CHART / "README.md").read_text(encoding="utf-8")

    assert readme == chart_readme.render_readme(readme, (CHART / "values.yaml").read_text(encoding="utf-8"))


def test_schema_closes_every_object_and_knows_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    assert list(_open_objects(schema, "")) == []
    assert [key for key, value in schema["properties"].items() if value.get("additionalProperties") is True] == [
        "global"
    ]
    assert schema["properties"].keys() == values.keys()
    assert list(_undocumented(schema, values, "")) == []


def test_versions_are_those_of_the_package(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    rays = {
        pin.partition("==")[2]
        for extra in project["optional-dependencies"].values()
        for pin in extra
        if pin[:4] == "ray["
    }

    assert chart["appVersion"] == project["version"]
    assert rays == {values["rayVersion"]}


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_jobs_are_recipes_that_load_and_fit_their_machines(repository: Path, preset: str) -> None:
    values = preset_values(preset)
    for job in values["jobs"].values():
        recipe_type = RECIPE_TYPES[RECIPE_KIND.get(job["kind"], job["kind"])]
        recipes = repository / "jobs" / "recipes"
        recipe = load_recipe(recipe_type, job["recipe"], overrides=job.get("overrides", ()), recipes_path=recipes)
        if isinstance(recipe, PretrainRecipe):
            resource, each = ("gpus", 1) if recipe.scaling.use_gpu else ("cpu", recipe.scaling.cpus_per_worker)
            there = sum(float(values["workerGroups"][group][resource]) * n for group, n in job["workers"].items())
            assert recipe.scaling.num_workers * each <= there


@pytest.mark.helm
@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ("explorer.replicas=two", "at '/explorer/replicas'"),
        ("explorer.replica=2", "at '/explorer'"),
        ("typo=1", "at ''"),
        ("image.tag=latest", "at '/image/tag'"),
        ("security.runAsUser=0", "at '/security/runAsUser'"),
        ("objectStore.root=file:///data", "at '/objectStore/root'"),
        ("objectStore.root=s3://BAD_bucket", "at '/objectStore/root'"),
        ("explorer.service.type=LoadBalancer", "at '/explorer/service'"),
        ("workerGroups.a100.cpu=8", "at '/workerGroups/a100'"),
        ("jobs.x.kind=train", "at '/jobs/x/kind'"),
        ("jobs.x.overrides[0]=a.b=$(id)", "at '/jobs/x/overrides/0'"),
        ("jobs.x.recipe=pretrain/a;id", "at '/jobs/x/recipe'"),
        ("research.upgradeStrategy=Rolling", "at '/research/upgradeStrategy'"),
        ("head.cpu=0", "at '/head/cpu'"),
        ("head.cpu=4Gi", "at '/head/cpu'"),
    ],
)
def test_a_bad_value_is_refused_with_its_path(helm: Helm, setting: str, path: str) -> None:
    command = ("template", "cm", str(CHART), "--values", MINIMAL, "--set", "operatorCheck=false", "--set", setting)
    result = helm(*command)

    assert result.returncode != 0
    assert path in result.stderr


@pytest.mark.helm
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objectStore.root": ""}, "objectStore.root is required"),
        ({"objectStore.endpoint": ""}, "objectStore.endpoint is required"),
        ({"objectStore.existingSecret": ""}, "objectStore.existingSecret is required"),
        ({"endpoint.enabled": "true"}, "endpoint.model is required"),
        ({"endpoint.enabled": "true", "endpoint.model": "m", "endpoint.overrides.root": "s3://other"},
         "endpoint.overrides.root is set by the chart: set objectStore.root"),
        ({"endpoint.enabled": "true", "endpoint.model": "m", "endpoint.apiKeys.existingSecret": "keys"},
         "explorer.endpointKey.existingSecret is required with endpoint.apiKeys"),
        ({"serviceAccount.name": "one", "serviceAccount.headName": "one"}, "serviceAccount.headName are both \"one\""),
        ({"research.workers.a100.minReplicas": "0", "research.workers.a100.maxReplicas": "1"}, 'worker group "a100"'),
        ({"research.workers.cpu.minReplicas": "9"}, "minReplicas=9 is above maxReplicas=4"),
        ({"fullnameOverride": "a" * 35, "jobs.eleven-char.kind": "sweep", "jobs.eleven-char.recipe": "sweep/demo",
          "jobs.eleven-char.workers.cpu": "1"}, ""),
        ({"fullnameOverride": "a" * 35, "jobs.twelve-chars.kind": "sweep", "jobs.twelve-chars.recipe": "sweep/demo",
          "jobs.twelve-chars.workers.cpu": "1"}, "has 48 characters, and 47 are allowed because KubeRay appends to it"),
    ],
)  # fmt: skip
def test_values_that_cannot_work_are_refused_with_a_reason(helm: Helm, settings: dict[str, str], message: str) -> None:
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    result = helm("template", "cm", str(CHART), "--values", MINIMAL, "--set", "operatorCheck=false", *sets)

    assert (result.returncode != 0) == bool(message), result.stderr
    assert message in result.stderr


@pytest.mark.helm
def test_cpus_may_be_numbers(render: Render) -> None:
    sets = ("head.cpu=4", "workerGroups.cpu.cpu=1.5", "submitter.requests.cpu=1", "submitter.cpu=2", "explorer.cpu=2")
    asked = yaml.safe_dump(render("cpu", *sets))

    assert {"cpu: '4'", "cpu: '1.5'", "cpu: '2'", "cpu: '1'"} <= {line.strip() for line in asked.splitlines()}
    assert not [line for line in asked.splitlines() if line.strip() in ("cpu: 4", "cpu: 1.5", "cpu: 1", "cpu: 2")]


@pytest.mark.helm
def test_a_cluster_without_kuberay_is_refused_with_the_command_to_install_it(helm: Helm) -> None:
    without = helm("template", "cm", str(CHART), "--values", MINIMAL)
    served = helm("template", "cm", str(CHART), "--values", MINIMAL, "--api-versions", "ray.io/v1/RayCluster")

    assert without.returncode != 0
    assert "does not serve ray.io/v1 RayCluster" in without.stderr
    assert "helm install kuberay-operator" in without.stderr
    assert served.returncode == 0


@pytest.mark.helm
def test_release_names_that_kubernetes_would_refuse_are_refused(helm: Helm) -> None:
    result = helm("template", "9lives", str(CHART), "--values", MINIMAL, "--set", "operatorCheck=false")

    assert "must start with a letter" in result.stderr


@pytest.mark.helm
def test_everything_can_be_switched_off(render: Render) -> None:
    off = ("research", "explorer", "tests", "networkPolicy")
    kinds = {m["kind"] for m in render("minimal", *(f"{part}.enabled=false" for part in off))}

    assert kinds == {"ServiceAccount", "ConfigMap"}


@pytest.mark.helm
@pytest.mark.parametrize("preset", PRESETS)
def test_notes_say_how_to_reach_submit_and_diagnose(helm: Helm, preset: str) -> None:
    values = str(CHART / "ci" / f"{preset}-values.yaml")
    command = ("install", "cm", str(CHART), "--namespace", "ml", "--values", values, "--set", "operatorCheck=false")
    result = helm(*command, "--dry-run=client")
    notes = result.stdout.partition("NOTES:")[2]

    assert result.returncode == 0, result.stderr
    for words in ("port-forward", "ray job submit", "jobs/submit.py", "PENDING", "describe pod"):
        assert words in notes
    assert "<no value>" not in notes and '"<model>"' not in notes
    gpus = any(group.get("gpus") for group in preset_values(preset)["workerGroups"].values())
    assert ("jobs/submit.py pretrain pretrain/paper --namespace ml" in notes) == gpus


@pytest.mark.helm
@pytest.mark.parametrize(("memory", "small"), [("4.9Gi", True), ("5Gi", False), ("5G", True), ("5120Mi", False)])
def test_notes_warn_of_a_head_that_runs_out_of_memory(helm: Helm, memory: str, small: bool) -> None:
    sets = ("--set", "operatorCheck=false", "--set", f"head.memory={memory}")
    result = helm("install", "cm", str(CHART), "--namespace", "ml", "--values", MINIMAL, "--dry-run=client", *sets)

    assert (f"WARNING: head.memory is {memory}." in result.stdout) == small, result.stderr


def _undocumented(schema: Any, values: Any, where: str) -> Iterator[str]:
    """Yield the fields of the schema that values.yaml has not; what is in the form of Kubernetes or of a recipe has its own."""
    if isinstance(values, dict) and where not in (".endpoint.overrides", ".global"):
        yield from (f"{where}.{name}" for name in schema.get("properties", {}).keys() - values.keys())
        for name, value in values.items():
            yield from _undocumented(schema.get("properties", {}).get(name, {}), value, f"{where}.{name}")


def _open_objects(schema: Any, where: str) -> list[str]:
    """Objects with named fields that do not close themselves, and free ones."""
    if isinstance(schema, list):
        return [path for number, item in enumerate(schema) for path in _open_objects(item, f"{where}.{number}")]
    if not isinstance(schema, dict):
        return []
    is_open = [where] if schema.get("type") == "object" and "additionalProperties" not in schema else []
    return is_open + [path for key, value in schema.items() for path in _open_objects(value, f"{where}.{key}")]
