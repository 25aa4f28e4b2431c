"""MTEB runs an exported vector model as it is: a sentence-transformers folder."""

import shutil
from pathlib import Path

import pytest
from clinical_modernbert.recipe.contrast import VectorSection
from clinical_modernbert.training.contrastive.export import write_sentence_transformers_files


def test_mteb_scores_an_export(encoder_folders: dict[str, Path], tmp_path: Path) -> None:
    mteb = pytest.importorskip("mteb", reason="mteb is not installed: docs/evaluation.md says how")
    from mteb.mocks.mock_tasks import MockRetrievalTask
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "model"
    shutil.copytree(encoder_folders["bert"], folder)
    write_sentence_transformers_files(folder, VectorSection(pooling="mean"), width=32, limit=64)
    found = mteb.evaluate(SentenceTransformer(str(folder)), [MockRetrievalTask()], cache=None)
    (result,) = found.task_results
    assert 0 <= result.get_score() <= 1
