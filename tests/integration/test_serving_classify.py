"""Fine-tuned exports over HTTP: /predict and /token-classify against transformers, and Hugging Face's client, unmodified."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import InferenceClient
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from tests.helpers.bare_server import KEYS, Server, key_lines
from tests.helpers.served_models import LONG, publish_folder, publish_model
from tests.helpers.tiny import save_tiny_classifier

LABELS = ("background", "methods", "results")
TAGS = ("O", "B-DRUG", "I-DRUG", "B-DOSE")
TEXTS = ["Patients took warfarin 5 mg daily.", "no acute distress", "x"]


@contextmanager
def serving(tmp_path: Path, **options: Any) -> Iterator[tuple[Server, Path]]:
    folder, root = tmp_path / "export", tmp_path / "store"
    save_tiny_classifier(folder / "model", **options)
    publish_folder(root, folder)
    server = Server(root, key_lines())
    try:
        yield server, folder / "model"
    finally:
        server.close()


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_predict_gives_the_probabilities_of_transformers(tmp_path: Path, pooling: str) -> None:
    with serving(tmp_path, head="sequence", labels=LABELS, pooling=pooling) as (server, folder):
        status, answers = server.post("/predict", {"inputs": [[text] for text in TEXTS]})
        assert status == 200, answers
        peer = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for text, answer in zip(TEXTS, answers, strict=True):
            with torch.inference_mode():
                logits = peer(**tokenizer(text, return_tensors="pt")).logits[0]
            assert [item["score"] for item in answer] == sorted((item["score"] for item in answer), reverse=True)
            found = {item["label"]: item["score"] for item in answer}
            np.testing.assert_allclose([found[label] for label in LABELS], logits.softmax(-1), atol=1e-5)
        _, raw = server.post("/predict", {"inputs": TEXTS[-1], "raw_scores": True})
        np.testing.assert_allclose({r["label"]: r["score"] for r in raw}[LABELS[0]], float(logits[0]), atol=1e-5)
        _, info = server.get("/info")
        assert info["model_type"] == {
            "classifier": {
                "id2label": {"0": LABELS[0], "1": LABELS[1], "2": LABELS[2]},
                "label2id": {label: i for i, label in enumerate(LABELS)},
            }
        }
        assert server.post("/embed", {"inputs": "x"})[0] == 200  # its vectors are served as any other's


def test_predict_reads_several_labels_apart_and_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    with serving(tmp_path, head="sequence", labels=LABELS, problem_type="multi_label_classification") as (
        server,
        folder,
    ):
        _, answer = server.post("/predict", {"inputs": TEXTS[0], "parameters": {"top_k": 2}})
        peer = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
        with torch.inference_mode():
            encoded = AutoTokenizer.from_pretrained(folder)(TEXTS[0], return_tensors="pt")
            likely = peer(**encoded).logits[0].sigmoid().sort(descending=True).values
        np.testing.assert_allclose([item["score"] for item in answer], likely[:2], atol=1e-5)
        for body, code in (
            ({"inputs": [["a", "pair"]]}, "invalid_inputs"),
            ({"inputs": ["flat", "list"]}, "invalid_inputs"),
            ({"inputs": [[""]]}, "empty_input"),
            ({"inputs": LONG}, "text_too_long"),
        ):
            status, refused = server.post("/predict", body)
            assert (400 <= status < 500, refused["error"]["code"]) == (True, code), body
        status, headers, _ = server.ask("/predict", {"inputs": [[LONG], ["x"]], "truncate": True})
        assert (status, headers["x-truncated"]) == (200, "1")
        assert server.post("/predict", {"inputs": "x"}, KEYS["vectors"])[0] == 403
        for path in ("/fill-mask", "/token-classify"):
            status, refused = server.post(path, {"inputs": "x [MASK]"})
            assert (status, refused["error"]["code"]) == (404, "no_such_head")
            assert "has a sequence-classification head" in refused["error"]["message"]


def test_token_classify_labels_places_in_the_text_as_transformers_does(tmp_path: Path) -> None:
    text = "Took warfarin 5 mg, then ünïcode µg of heparin2."
    with serving(tmp_path, head="token", labels=TAGS, texts=[text, *TEXTS]) as (server, folder):
        peer = AutoModelForTokenClassification.from_pretrained(folder, attn_implementation="eager").eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        encoded = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
        offsets = encoded.pop("offset_mapping")[0][1:-1].tolist()
        with torch.inference_mode():
            likely = peer(**encoded).logits[0, 1:-1].softmax(-1)
        body = {"inputs": text, "parameters": {"aggregation_strategy": "none", "ignore_labels": []}}
        status, tokens = server.post("/token-classify", body)
        assert status == 200, tokens
        best = [(TAGS[int(row.argmax())], float(row.max())) for row in likely]
        assert len(best) == len(tokens) == len(offsets)
        for token, (label, score), (start, stop) in zip(tokens, best, offsets, strict=True):
            assert token["entity"] == label
            assert token["score"] == pytest.approx(score, abs=1e-5)
            assert token["word"] == text[start:stop].strip() == text[token["start"] : token["end"]]

        _, spans = server.post("/token-classify", {"inputs": [text, "x"], "parameters": {"ignore_labels": []}})
        assert [span["word"] for span in spans[0]] == [text[span["start"] : span["end"]] for span in spans[0]]
        assert {span["entity_group"] for span in spans[0]} <= {"O", "DRUG", "DOSE"}
        for span in spans[0]:  # whole words: no end is between two letters or digits
            for place in (span["start"], span["end"]):
                assert not (text[place - 1 : place].isalnum() and text[place : place + 1].isalnum()), span
        assert server.post("/predict", {"inputs": "x"})[1]["error"]["code"] == "no_such_head"


def test_token_classify_reads_a_long_text_in_windows(tmp_path: Path) -> None:
    with serving(tmp_path, head="token", labels=TAGS) as (server, _):
        body: dict[str, Any] = {"inputs": LONG, "parameters": {"ignore_labels": []}}
        assert server.post("/token-classify", body)[1]["error"]["code"] == "text_too_long"
        _, whole = server.post("/token-classify", {**body, "windows": True})
        _, headers, first = server.ask("/token-classify", {**body, "truncate": True})
        assert headers["x-truncated"] == "1"
        assert whole[0]["start"] == first[0]["start"] == 0
        assert whole[-1]["end"] == len(LONG.rstrip())
        assert first[-1]["end"] < whole[-1]["end"]


def test_hugging_face_s_client_classifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Offline, this client refuses even a server on the same machine.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serving(tmp_path / "a", head="sequence", labels=LABELS) as (server, _):
        best = InferenceClient(model=f"{server.url}/predict", token=KEYS["full"]).text_classification(TEXTS[0])
        assert best.label == server.post("/predict", {"inputs": TEXTS[0]})[1][0]["label"]
    with serving(tmp_path / "b", head="token", labels=TAGS) as (server, _):
        client = InferenceClient(model=f"{server.url}/token-classify", token=KEYS["full"])
        for found in client.token_classification(TEXTS[0], aggregation_strategy="simple"):
            assert found.word == TEXTS[0][found.start : found.end]
            assert found.entity_group in ("DRUG", "DOSE")


def test_a_masked_language_model_says_what_it_lacks(tmp_path: Path) -> None:
    publish_model(tmp_path / "store", tmp_path / "export")
    server = Server(tmp_path / "store", key_lines())
    try:
        for path, needs in (("/predict", "sequence"), ("/token-classify", "token")):
            status, refused = server.post(path, {"inputs": "x"})
            assert (status, refused["error"]["code"]) == (404, "no_such_head")
            assert f"needs a {needs}-classification head" in refused["error"]["message"]
    finally:
        server.close()
