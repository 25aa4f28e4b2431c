"""Runs on the cluster: fine-tuning on Ray Train gives what one process gives, and a lost worker or a bad file costs one run."""

import threading
import time
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from clinical_modernbert.artifacts import Plan, Store, make_plan, open_store, resolve
from clinical_modernbert.errors import ArtifactError, GroupError
from clinical_modernbert.evaluation.fingerprint_inputs import fingerprint_inputs
from clinical_modernbert.evaluation.launch import launch, on_worker, shared_out
from clinical_modernbert.evaluation.run import evaluate
from clinical_modernbert.evaluation.runs import read_scored, run, run_plan
from clinical_modernbert.recipe import EvaluateRecipe, FineTuneRecipe, ProbeRecipe, build_recipe
from clinical_modernbert.recipe.evaluate import EvaluateScaling

from tests.helpers.encoders import encoder_folders  # noqa: F401  # a fixture
from tests.helpers.tiny import DRUGS, tiny_texts

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences whose role is their drug's, whole and with a line that is none of the format."""
    folder = tmp_path_factory.mktemp("data")
    lines = []
    for number, text in enumerate(tiny_texts(60)):
        lines.append(f"###{number}")
        for sentence in text.split(".")[:3]:
            known = set(DRUGS[:2]) & set(sentence.split())
            lines.append(f"{'METHODS' if known else 'RESULTS'}\t{sentence.strip()}.")
        lines.append("")
    (folder / "roles.txt").write_text("\n".join(lines))
    (folder / "broken.txt").write_text("\n".join([*lines[:5], "no label here", *lines[5:]]))
    return folder


def plan(kind: type, folder: Path, data: Path, store: Store, *, file: str = "roles.txt", **changes: Any) -> Plan:
    values = {
        "name": "tiny",
        "encoder": {"name": folder.name.rstrip("0123456789"), "source": str(folder), "pooling": "mean"},
        "task": {"name": "roles", "type": "sentence_roles", "train": file},
        "data": str(data),
        "tuning": {"learning_rate": 2e-3, "num_epochs": 2, "batch_size": 8},
        "scaling": {"num_cpus": 1, "num_runs": 2},
    }
    return run_plan(kind.model_validate(values | changes), store)


def figures(made: Plan) -> dict[str, np.ndarray]:
    artifact = made.existing()
    assert artifact is not None
    return read_scored(artifact).values


def test_a_report_of_fine_tuned_and_frozen_runs(
    encoder_folders: dict[str, Path],  # noqa: F811
    shared_data: Path,
    tmp_path: Path,
) -> None:
    encoders = [
        {"name": name, "source": str(folder), "pooling": "mean", "max_tokens": 32}
        for name, folder in encoder_folders.items()
        if name == "modernbert"
    ]
    task = {"name": "ehr", "type": "disposition", "format": "mimic_hosp", "path": "ehr/mimic-iv-demo-2.2/hosp"}
    values = {
        "kind": "evaluate",
        "name": "modes",
        "encoders": encoders,
        "data": str(shared_data),
        "tasks": [task | {"max_train": 48, "max_test": 48}],
        "modes": ["fine_tuned", "frozen"],
        "seeds": [0],
        "tuning": {"num_epochs": 1},
        "num_resamples": 100,
        "scaling": {"num_cpus": 1, "num_runs": 2},
    }
    recipe = build_recipe(EvaluateRecipe, values, origin="test")
    store = open_store(str(tmp_path))
    report = evaluate(make_plan(recipe, store, raw_inputs=fingerprint_inputs(recipe)))
    results = report.summary["tasks"]["ehr"]["results"]
    assert {(r["encoder"], r["mode"]) for r in results} == set(product(["modernbert"], ("fine_tuned", "frozen")))
    for result in results:
        kind = "model" if result["mode"] == "fine_tuned" else "evaluation"
        assert [name.partition("/")[0] for name in result["artifacts"]] == [kind]
        assert 0 <= result["calibration"]["brier"] <= 1 and result["main_metric"] == "auroc"
    # Every fine-tuned run was published with its head.
    assert len(store.names("model")) == 1
    for name in store.names("model"):
        assert resolve(store, "model", name).summary["head"]["kind"] == "sequence_classification"
    assert set(report.summary["tasks"]["ehr"]["errors"]) == {"fine_tuned", "frozen"}
    text = report.file("report.md").read_text()
    assert "fine-tuned" in text and "Calibration" in text


def test_a_lost_worker_costs_no_run_and_the_cluster_gives_what_one_process_gives(
    encoder_folders: dict[str, Path],  # noqa: F811
    data: Path,
    tmp_path: Path,
) -> None:
    here, there = open_store(str(tmp_path / "here")), open_store(str(tmp_path / "there"))
    long = {"learning_rate": 2e-3, "num_epochs": 20, "patience": 20, "batch_size": 2}
    wanted = [(FineTuneRecipe, "modernbert"), (FineTuneRecipe, "bert"), (ProbeRecipe, "modernbert")]
    plans = [plan(kind, encoder_folders[name], data, there, tuning=long) for kind, name in wanted]
    killed: list[int] = []
    launched = threading.Event()
    # Seconds of CPU time: a worker just started, one that imports its libraries, one at work.
    ages = [0.0, 3.5, 8.0]

    def kill_three() -> None:
        while len(killed) < len(ages) and not launched.is_set():
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error, IndexError):  # it ended while it was looked at; all are killed
                    if "RayTrainWorker" in " ".join(child.cmdline()) and child.cpu_times().user > ages[len(killed)]:
                        child.kill()
                        killed.append(child.pid)
            time.sleep(0.1)

    killer = threading.Thread(target=kill_three)
    killer.start()
    try:
        assert launch(plans) == {}
    finally:
        launched.set()
        killer.join()
    assert len(killed) == len(ages)
    for (kind, name), made in zip(wanted, plans, strict=True):
        alone = plan(kind, encoder_folders[name], data, here, tuning=long)
        run(alone)
        for key, values in figures(alone).items():
            assert np.allclose(values, figures(made)[key], atol=1e-6), (kind, name, key)


def test_a_fault_of_the_data_is_named_and_stops_no_other_run(
    encoder_folders: dict[str, Path],  # noqa: F811
    data: Path,
    tmp_path: Path,
) -> None:
    store = open_store(str(tmp_path))
    made = [
        plan(kind, encoder_folders["bert"], data, store, file=file)
        for kind, file in ((FineTuneRecipe, "broken.txt"), (ProbeRecipe, "broken.txt"), (ProbeRecipe, "roles.txt"))
    ]
    failed = launch(made)
    assert list(failed) == [made[0].id, made[1].id] and "broken.txt, line 6" in failed[made[1].id]
    assert [p.existing() is not None for p in made] == [False, False, True]


def test_a_cluster_without_room_is_said_in_the_recipe_s_words(
    encoder_folders: dict[str, Path],  # noqa: F811
    data: Path,
    tmp_path: Path,
) -> None:
    scaling = {"num_cpus": 64, "start_timeout_s": 3, "max_failures": 0}
    made = plan(FineTuneRecipe, encoder_folders["bert"], data, open_store(str(tmp_path)), scaling=scaling)
    with pytest.raises(GroupError, match=r"no room for a worker of 64 CPUs within scaling.start_timeout_s=3"):
        launch([made])


def test_a_user_error_comes_back_from_a_worker_as_it_is() -> None:
    def read() -> None:
        raise ArtifactError("no model 'none' in the store")

    with pytest.raises(ArtifactError, match=r"^no model 'none' in the store$"):
        on_worker(read, scaling=EvaluateScaling())


def test_a_worker_does_several_runs_and_one_that_fails_leaves_the_others(
    encoder_folders: dict[str, Path],  # noqa: F811
    data: Path,
    tmp_path: Path,
) -> None:
    store = open_store(str(tmp_path))
    scaling = {"num_cpus": 1, "num_runs": 1}
    made = [
        plan(ProbeRecipe, encoder_folders["bert"], data, store, file=file, seed=seed, scaling=scaling)
        for seed, file in enumerate(["roles.txt", "broken.txt", *["roles.txt"] * 6])
    ]
    assert [len(share) for share in shared_out(made, 1)] == [2, 2, 2, 2] and len(shared_out(made, 3)) == 8
    failed = launch(made)
    assert list(failed) == [made[1].id] and failed[made[1].id].startswith("broken.txt, line 6")
    assert [p.existing() is None for p in made] == [False, True, *[False] * 6]
