"""The short form of ``make drill ROW=corruption``."""

from pathlib import Path

from clinical_modernbert.artifacts import open_store

from benchmarks.drills import corruption
from tests.helpers.tiny import publish_tiny_corpus


def test_damaged_files_of_an_artifact_are_refused_by_name(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    corpus = publish_tiny_corpus(store)
    assert corruption.inject(store, [corpus.prefix], seed=0, num_faults=12).passed
