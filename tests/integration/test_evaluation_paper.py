"""``jobs/evaluate.py evaluate/paper`` as a user runs it, on made-up sets in every layout that it reads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import find_artifact, open_store
from clinical_modernbert.training.launch import pretrain_in_process

from tests.paper_sets import write_paper_sets
from tests.tiny import publish_tiny_corpus, tiny_pretrain_plan

SHORT = [
    "modes=[frozen]",
    "seeds=[0]",
    "encoders=[{name: biobert}]",
    "sequence_length=64",
    "codes={max_codes: 150, num_iterations: 50}",
    "efficiency={num_texts: [2, 4], num_tokens: 16, num_rounds: 1, batch_size: 2}",
    "num_resamples=100",
    "scaling={num_cpus: 1, num_runs: 2}",
]


@pytest.mark.ray
@pytest.mark.slow
def test_every_table_and_figure_of_the_paper(repository: Path, tmp_path: Path) -> None:
    write_paper_sets(tmp_path / "data")
    store = open_store(str(tmp_path / "store"))
    publish_tiny_corpus(store, name="paper")
    pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=2", corpus="paper", name="paper"))
    sets = [part for change in [f"data={tmp_path / 'data'}", *SHORT] for part in ("--set", change)]
    command = [sys.executable, "jobs/evaluate.py", "evaluate/paper", *sets, "--root", store.uri]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
    done = subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    artifact = find_artifact(store, "evaluation", done.stdout.strip().rpartition("/")[2])
    assert artifact is not None
    report = json.loads(artifact.file("report.json").read_bytes())
    assert set(report["encoders"]) == {"paper"} and "hf download" in report["skipped"]["encoders"]["biobert"]
    assert len(report["tasks"]) == 9 and not report["skipped"]["tasks"]
    text = artifact.file("report.md").read_text()
    for number in (3, 4, 6, 7, 8):
        assert f"Table {number}" in text
    for number in (2, 3):
        assert f"Figure {number}" in text and artifact.file(f"figure{number}.png").is_file()
