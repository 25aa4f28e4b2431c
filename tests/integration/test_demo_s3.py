"""The main job in miniature with every artifact in S3: corpus, training, sweep, evaluation, vectors, map and endpoint."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import list_artifacts, open_store

from tests.helpers.s3_server import S3Server

MINIATURE = [
    "corpus.sources=[{type: synthetic_notes, name: notes, num_documents: 60}, "
    "{type: synthetic_pubmed, name: abstracts, num_documents: 60}]",
    "corpus.tokenizer={base: train, vocabulary_size: 512, num_clinical_tokens: 16}",
    "corpus.held_out.fraction=0.2",
    "pretrain.model={hidden_size: 64, intermediate_size: 96, num_layers: 2, num_heads: 2, max_position_embeddings: 512}",
    "pretrain.training.num_steps=6",
    "pretrain.checkpoint.every_steps=2",
    'sweep.overrides=["model.hidden_size=32", "model.intermediate_size=48", "model.num_heads=2", "training.num_steps=2", '
    '"scaling.num_workers=1", "scaling.micro_batch_rows=32", "scaling.engine=torch"]',
    "contrast.training={num_steps: 2, batch_pairs: 32}",
    "map.max_codes=200",
    "map.num_iterations=50",
]

# A sweep's trials are models too.
NUMBER_MADE = {"corpus": 1, "model": 4, "pairs": 1, "sweep": 1, "evaluation": 1, "map": 1}


def figures_of(output: str) -> str:
    """Return the screen without what Ray prints around it, up to the endpoint, which is asked anew each time."""
    return output[output.index("Clinical ModernBERT: the main job") : output.index("Endpoint")]


@pytest.mark.ray
@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_main_job_in_miniature_on_s3(repository: Path, s3_environment: S3Server) -> None:
    root = f"s3://{s3_environment.bucket}/demo"
    overrides = [part for override in MINIATURE for part in ("--set", override)]
    command = [sys.executable, "jobs/demo.py", "--root", root, *overrides]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}

    def run() -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        return done

    screen = run().stdout
    assert "equal to the offline vectors" in screen
    store = open_store(root)
    made = {kind: list_artifacts(store, kind) for kind in NUMBER_MADE}
    for kind, number in NUMBER_MADE.items():
        found = made[kind]
        assert len(found) == number, [artifact.uri for artifact in found]
        for artifact in found:
            assert artifact.uri.startswith(f"{root}/{kind}/")
            assert artifact.folder(), "every file is in the store and equals its manifest"
    # Nothing is left behind by a finished line: no intermediate file, no checkpoint of the published model.
    assert list(store.walk("work")) == []
    assert list(store.walk("checkpoint")) == []

    (corpus,), (evaluation,) = made["corpus"], made["evaluation"]
    for name, account in corpus.summary["sources"].items():
        shown = f"{name}* {account['records']} {account['documents']['train']} {account['documents']['held_out']}"
        assert f"{shown} {sum(account['tokens'].values()):,} " in " ".join(screen.split())
    for mask, figures in evaluation.summary["masks"].items():
        assert f"{figures['model']['1']:>9.2%} /{figures['unigram']['1']:>7.2%}" in screen, mask

    again = run()
    assert again.stderr.count("already exists") == 7
    assert figures_of(again.stdout) == figures_of(screen)
    assert {kind: list_artifacts(store, kind) for kind in NUMBER_MADE} == made
