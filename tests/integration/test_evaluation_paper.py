"""``jobs/evaluate.py evaluate/paper`` as a user runs it, on made-up sets in every layout that it reads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import find_artifact, open_store
from clinical_modernbert.training.launch import pretrain_in_process

from tests.helpers.paper_sets import write_paper_sets
from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan

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


def evaluate_paper(folder: Path, repository: Path, store: str, *changes: str) -> subprocess.CompletedProcess[str]:
    """Run the job as a user does, with an empty cache of the hub."""
    sets = [part for change in (f"data={folder / 'data'}", *SHORT, *changes) for part in ("--set", change)]
    command = [sys.executable, "jobs/evaluate.py", "evaluate/paper", *sets, "--root", store]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder / "hub")}
    return subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, timeout=500, check=False
    )


def test_where_nothing_is_there_the_job_says_what_is_missing(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = evaluate_paper(tmp_path, repository, f"file://{tmp_path / 'store'}")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "none of the encoders is on this machine: " in done.stderr and "hf download dmis-lab/biobert" in done.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_every_table_and_figure_of_the_paper(repository: Path, tmp_path: Path) -> None:
    write_paper_sets(tmp_path / "data")
    store = open_store(str(tmp_path / "store"))
    publish_tiny_corpus(store, name="paper")
    pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=2", corpus="paper", name="paper"))
    done = evaluate_paper(tmp_path, repository, store.uri)
    assert done.returncode == 0, done.stderr[-3000:]
    artifact = find_artifact(store, "evaluation", done.stdout.strip().rpartition("/")[2])
    assert artifact is not None
    report = json.loads(artifact.file("report.json").read_bytes())
    assert set(report["encoders"]) == {"paper"} and "hf download" in report["skipped"]["encoders"]["biobert"]
    assert len(report["tasks"]) == 9 and not report["skipped"]["tasks"]
    text = artifact.file("report.md").read_text()
    for table, row in (
        ("Table 4", "| clinical-modernbert, reported | its own | 63.31%"),
        ("Table 6", "| biobert | reported | 0.968 | 0.9179 | 0.9187"),
        ("Table 7", "| clinical-modernbert | reported | 128 | 0.2167"),
        ("Table 8", "| clinical-longformer | reported | 0.973"),
    ):
        assert row in text.split(f"## {table}")[1].split("\n## ")[0]
    assert "## Table 3" in text and text.count("| paper | frozen |") == 1 + 2 + 1
    assert "warfarin" not in text + json.dumps(report)  # no set is public: nothing of any text is shown
    for number in (2, 3):
        assert f"Figure {number}" in text and artifact.file(f"figure{number}.png").is_file()
