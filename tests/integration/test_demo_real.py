"""The main job on real files, with few steps: every component runs, and what the screen says is what the manifests hold."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import list_artifacts, open_store

KINDS = ("corpus", "pairs", "model", "sweep", "evaluation", "map")


def run_demo(repository: Path, data: Path, root: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "jobs/demo.py",
        "--data",
        str(data),
        "--root",
        str(root),
        "--set",
        "pretrain.training.num_steps=60",
        "--set",
        "contrast.training.num_steps=20",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=True)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_main_job_on_real_files(repository: Path, shared_data: Path, tmp_path: Path) -> None:
    screen = run_demo(repository, shared_data, tmp_path).stdout
    store = open_store(str(tmp_path))
    # A sweep's trials are models too; the demo's own two carry its name.
    made = {kind: [a for a in list_artifacts(store, kind) if "-trial-" not in a.manifest.id] for kind in KINDS}
    assert {kind: len(found) for kind, found in made.items()} == {**dict.fromkeys(KINDS, 1), "model": 2}
    corpus, sweep, evaluation, code_map = (made[kind][0] for kind in ("corpus", "sweep", "evaluation", "map"))
    model, vectors = sorted(made["model"], key=lambda artifact: artifact.manifest.recipe["kind"] == "contrast")

    pubmed = corpus.summary["sources"]["pubmed"]
    assert pubmed["records"] == 690 and pubmed["dropped"] == {"deletion_notice": 1, "no_abstract": 87}
    assert sum(pubmed["documents"].values()) == 602
    assert corpus.summary["sources"]["mtsamples"]["dropped"]["duplicate"] == 12
    assert corpus.summary["synthetic_sources"] == ["abstracts", "notes"]
    assert all(fill > 0.98 for fill in corpus.summary["fill"].values())

    assert model.summary["loss_last"] < model.summary["loss_first"] - 1
    assert [trial["point"]["optimizer.learning_rate"] for trial in sweep.summary["trials"]] == [3e-3, 1e-5]
    assert set(evaluation.summary["masks"]) == {"uniform", "entity"}
    purity = code_map.summary["purity"]
    assert purity["permutation"] < 0.15 < purity["tfidf"]

    for name, account in corpus.summary["sources"].items():
        assert f"{name}{'*' if name in corpus.summary['synthetic_sources'] else ''}" in screen
        assert f"{account['records']:,}" in screen
    assert f"loss {model.summary['loss_first']:.3f} -> {model.summary['loss_last']:.3f}" in screen
    assert f"{evaluation.summary['masks']['uniform']['model']['1']:>9.2%}" in screen
    assert f"encoder {purity['encoder']:.3f}" in screen
    assert "equal to the offline vectors" in screen
    assert code_map.summary["model"] == vectors.manifest.id and "encoder after" in screen and "heart attack" in screen
    assert all(artifact.uri in screen for kind in KINDS if kind != "pairs" for artifact in made[kind])

    before = {a.uri: a.manifest.created_at for kind in KINDS for a in list_artifacts(store, kind)}
    again = run_demo(repository, shared_data, tmp_path)
    assert again.stderr.count("already exists") == len(KINDS) + 1
    assert {a.uri: a.manifest.created_at for kind in KINDS for a in list_artifacts(store, kind)} == before
