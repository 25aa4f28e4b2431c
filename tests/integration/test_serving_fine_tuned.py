"""What the evaluation fine-tunes is served as it was published: store, engine, HTTP."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.encoder import embed_ids
from clinical_modernbert.errors import ModelError
from clinical_modernbert.evaluation.encoders import resolve_encoder
from clinical_modernbert.evaluation.heads import load_base
from clinical_modernbert.evaluation.runs import run
from clinical_modernbert.evaluation.tasks.windows import encode_texts
from clinical_modernbert.recipe import FineTuneRecipe
from clinical_modernbert.recipe.tasks import EncoderSection
from clinical_modernbert.tokenizer import load_tokenizer

from tests.helpers.bare_server import Server, key_lines
from tests.helpers.encoders import encoder_folders  # noqa: F401  # a fixture
from tests.helpers.runs import DRUG_TASK, ROLE_TASK, task_files, tiny_run_plan  # noqa: F401  # task_files is a fixture
from tests.helpers.tiny import tiny_texts

PAIR_TASK = {"name": "pairs", "type": "retrieval", "format": "halves", "queries": "cases.txt"}
TEXTS = ["heparin 3 mg daily", "x", "The patient took warfarin in the ward."]


@pytest.mark.parametrize(
    ("architecture", "task", "path"),
    [
        ("modernbert", DRUG_TASK, "/token-classify"),
        ("modernbert", ROLE_TASK, "/predict"),
        ("bert", DRUG_TASK, "/token-classify"),
    ],
)
def test_the_endpoint_answers_with_the_head_of_an_evaluation_s_run(
    architecture: str,
    task: dict[str, Any],
    path: str,
    encoder_folders: dict[str, Path],  # noqa: F811
    task_files: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    artifact = run(tiny_run_plan(FineTuneRecipe, task, encoder_folders[architecture], task_files, str(tmp_path)))
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


@pytest.mark.parametrize("architecture", ["modernbert", "bert"])
def test_the_endpoint_answers_with_the_vectors_that_retrieval_was_judged_by(
    architecture: str,
    encoder_folders: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    texts = [text for text in tiny_texts(60) if len(text.split()) >= 40]
    (tmp_path / "cases.txt").write_text("".join(f"###{i}\nMETHODS\t{text}\n\n" for i, text in enumerate(texts)))
    changes = {"tuning": {"learning_rate": 1e-3, "num_epochs": 1, "batch_size": 8}}
    artifact = run(
        tiny_run_plan(FineTuneRecipe, PAIR_TASK, encoder_folders[architecture], tmp_path, str(tmp_path), **changes)
    )
    name = artifact.manifest.id
    folder = artifact.folder("model")
    ids, _ = encode_texts(load_tokenizer(folder), TEXTS, max_tokens=64)
    base = load_base(resolve_encoder(EncoderSection(name="run", source=str(folder))))
    expected = embed_ids(base, ids, pooling="mean", max_batch_tokens=1000)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    with pytest.raises(ModelError, match=f"pooling=cls, but the vectors of {name} were trained with pooling=mean"):
        Server(tmp_path, key_lines(), model=name)
    server = Server(tmp_path, key_lines(), model=name, pooling="mean")
    try:
        server.engine.warm_up()
        _, answer = server.post("/v1/embeddings", {"input": TEXTS, "model": name})
        np.testing.assert_allclose([item["embedding"] for item in answer["data"]], expected, atol=1e-5)
        np.testing.assert_allclose(server.post("/embed", {"inputs": TEXTS})[1], expected, atol=1e-5)
        inputs = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
        found = server.post("/similarity", {"inputs": inputs})[1]
        np.testing.assert_allclose(found, expected[1:] @ expected[0], atol=1e-5)
        states = server.post("/embed_all", {"inputs": TEXTS})[1]
        means = np.stack([np.mean(states_TD, axis=0) for states_TD in states])
        np.testing.assert_allclose(means / np.linalg.norm(means, axis=1, keepdims=True), expected, atol=1e-5)
        tokens = server.post("/tokenize", {"inputs": TEXTS})[1]
        assert [[token["id"] for token in text] for text in tokens] == ids
        for path in ("/fill-mask", "/predict", "/token-classify"):
            status, refused = server.post(path, {"inputs": "x [MASK]"})
            assert (status, refused["error"]["code"]) == (404, "no_such_head")
            assert "has no head on its encoder" in refused["error"]["message"]
        info = server.get("/info")[1]
        assert (info["head"], info["labels"], info["max_input_length"]) == ("embedding", [], 64)
        assert info["model_type"]["embedding"] == {"pooling": "mean"}
    finally:
        server.close()
