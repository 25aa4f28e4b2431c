"""The main job with few steps and every artifact in S3: all components run, and the screen says what the manifests hold."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import Artifact, list_artifacts, open_store

from tests.helpers.s3_server import S3Server

# A sweep's trials are models too.
NUMBER_MADE = {"corpus": 1, "model": 4, "pairs": 1, "sweep": 1, "evaluation": 1, "map": 1}
NUM_CODES = 1000
SHORT = [
    'sweep.overrides=["training.num_steps=20", "checkpoint.every_steps=null", "scaling.num_workers=1", '
    '"scaling.micro_batch_rows=32"]',
    "evaluate.max_rows=512",
    f"map.max_codes={NUM_CODES}",
    "map.num_iterations=50",
]
ON_REAL_FILES = ["pretrain.training.num_steps=60", "contrast.training.num_steps=20"]
ON_GENERATED = [
    "corpus.sources=[{type: synthetic_notes, name: notes, num_documents: 60}, "
    "{type: synthetic_pubmed, name: abstracts, num_documents: 60}]",
    "corpus.tokenizer={base: train, vocabulary_size: 512, num_clinical_tokens: 16}",
    "corpus.held_out.fraction=0.2",
    "pretrain.training.num_steps=6",
    "pretrain.checkpoint.every_steps=2",
    "contrast.training={num_steps: 2, batch_pairs: 32}",
]


def figures_of(output: str) -> str:
    """Return the screen without what Ray prints around it, up to the endpoint, which is asked anew each time."""
    return output[output.index("Clinical ModernBERT: the main job") : output.index("Endpoint")]


def check_screen(screen: str, made: dict[str, list[Artifact]]) -> None:
    """Compare the screen with the manifests."""
    (corpus,), (sweep,), (evaluation,), (code_map,) = (made[kind] for kind in ("corpus", "sweep", "evaluation", "map"))
    own = {a.manifest.recipe["kind"]: a for a in made["model"] if "-trial-" not in a.manifest.id}
    words = " ".join(screen.split())
    for name, account in corpus.summary["sources"].items():
        mark = "*" if name in corpus.summary["synthetic_sources"] else ""
        documents = account["documents"]
        shown = f"{name}{mark} {account['records']:,} {documents['train']:,} {documents['held_out']:,}"
        assert f"{shown} {sum(account['tokens'].values()):,} " in words, name
    model, vectors = own["pretrain"], own["contrast"]
    assert f"loss {model.summary['loss_first']:.3f} -> {model.summary['loss_last']:.3f}" in screen
    assert [trial["point"]["optimizer.learning_rate"] for trial in sweep.summary["trials"]] == [3e-3, 1e-5]
    assert set(evaluation.summary["masks"]) == {"uniform", "entity"}
    for mask, figures in evaluation.summary["masks"].items():
        assert f"{figures['model']['1']:>9.2%} /{figures['unigram']['1']:>7.2%}" in screen, mask
    assert f"encoder {code_map.summary['purity']['encoder']:.3f}" in screen
    measures = code_map.summary["measures"]
    assert measures["seen"]["codes"] + measures["held_out"]["codes"] == measures["all"]["codes"] == NUM_CODES
    assert code_map.summary["model"] == vectors.manifest.id and "encoder after" in screen and "heart attack" in screen
    assert "equal to the offline vectors" in screen
    shown_artifacts = (corpus, model, sweep, evaluation, vectors, code_map)
    assert all(artifact.uri in screen for artifact in shown_artifacts)


def check_real_files(made: dict[str, list[Artifact]]) -> None:
    """What the real files hold, and that the model learns something from them."""
    (corpus,), (code_map,) = made["corpus"], made["map"]
    pubmed = corpus.summary["sources"]["pubmed"]
    assert pubmed["records"] == 690 and pubmed["dropped"] == {"deletion_notice": 1, "no_abstract": 87}
    assert sum(pubmed["documents"].values()) == 602
    assert corpus.summary["sources"]["mtsamples"]["dropped"]["duplicate"] == 12
    assert corpus.summary["synthetic_sources"] == ["abstracts", "notes"]
    assert all(fill > 0.98 for fill in corpus.summary["fill"].values())
    (model,) = (a for a in made["model"] if a.manifest.recipe["kind"] == "pretrain" and "-trial-" not in a.manifest.id)
    assert model.summary["loss_last"] < model.summary["loss_first"] - 1
    purity = code_map.summary["purity"]
    assert purity["permutation"] < 0.15 < purity["tfidf"]


@pytest.mark.ray
@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_main_job_on_s3(repository: Path, found_data: Path | None, s3_environment: S3Server) -> None:
    """On real files where they are there, else on generated documents."""
    root = f"s3://{s3_environment.bucket}/demo"
    overrides = [*(ON_REAL_FILES if found_data else ON_GENERATED), *SHORT]
    command = [sys.executable, "jobs/demo.py", "--root", root, *(["--data", str(found_data)] if found_data else [])]
    command += [part for override in overrides for part in ("--set", override)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}

    def run() -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        return done

    screen = run().stdout
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
    check_screen(screen, made)
    if found_data:
        check_real_files(made)

    again = run()
    assert again.stderr.count("already exists") == 7
    assert figures_of(again.stdout) == figures_of(screen)
    assert {kind: list_artifacts(store, kind) for kind in NUMBER_MADE} == made
