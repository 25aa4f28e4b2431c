"""What the evaluation fine-tunes is served as it was published: store, engine, HTTP."""

from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.evaluation.runs import run
from clinical_modernbert.recipe import FineTuneRecipe

from tests.encoders import encoder_folders  # noqa: F401  # a fixture
from tests.integration.bare_server import Server, key_lines
from tests.unit.evaluation.test_runs import DRUG_TASK, ROLE_TASK, data, plan  # noqa: F401  # data is a fixture


@pytest.mark.parametrize(("task", "path"), [(DRUG_TASK, "/token-classify"), (ROLE_TASK, "/predict")])
def test_the_endpoint_answers_with_the_head_of_an_evaluation_s_run(
    task: dict[str, Any],
    path: str,
    encoder_folders: dict[str, Path],  # noqa: F811
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    artifact = run(plan(FineTuneRecipe, task, encoder_folders["modernbert"], data, str(tmp_path)))
    labels = set(artifact.summary["head"]["labels"])
    server = Server(tmp_path, key_lines(), model=artifact.manifest.id)
    try:
        text = "The patient took heparin 3 mg daily."
        status, answer = server.post(path, {"inputs": text})
        assert status == 200, answer
        if path == "/token-classify":
            assert [(span["entity_group"], span["word"]) for span in answer] == [("Drug", "heparin")]
        else:
            assert {item["label"] for item in answer} == labels
            assert sum(item["score"] for item in answer) == pytest.approx(1, abs=1e-5)
        assert server.get("/info")[1]["model"] == artifact.manifest.id
    finally:
        server.close()
