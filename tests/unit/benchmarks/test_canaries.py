"""Short forms of ``make drill ROW=canaries``: the endpoint and training. Corpora and bulk vectors have tests of their own."""

from pathlib import Path

import pytest
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.errors import UserError
from clinical_modernbert.training.launch import contrast_in_process, pretrain_in_process

from benchmarks.drills import canaries
from benchmarks.kits.canaries import Hits, rows, text_of
from benchmarks.kits.explorer_visit import kept_log
from tests.helpers.pairs import publish_tiny_pairs, tiny_contrast_plan
from tests.helpers.served_models import publish_model
from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan

PATIENTS = tuple(text_of(number) for number in range(60))


def test_no_refusal_log_metric_or_trace_of_the_endpoint_has_a_patient(tmp_path: Path) -> None:
    publish_model(tmp_path / "store", tmp_path / "export")
    hits = Hits()
    canaries.ask_endpoint(tmp_path / "store", hits, num_patients=100)
    assert not hits.wrong
    assert hits.searched["refusal"] > 50 and hits.searched["logs"] == hits.searched["metrics"] == 1
    assert hits.searched["traces"] >= 100


def test_no_log_curve_card_manifest_or_error_of_training_has_a_patient(tmp_path: Path) -> None:
    store, hits, no_model = open_store(str(tmp_path / "store")), Hits(), tmp_path / "patients.csv"
    no_model.write_text(rows(10))
    publish_tiny_corpus(store, texts=PATIENTS)
    with kept_log() as kept:
        pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=4"))
        publish_tiny_pairs(store, rows=[(text, f"admission {n}") for n, text in enumerate(PATIENTS)])
        contrast_in_process(tiny_contrast_plan(store, "tiny", "training.num_steps=4", name="vectors"))
        for refused in (
            lambda: tiny_pretrain_plan(store, f"model.init={no_model}"),
            lambda: tiny_contrast_plan(store, no_model),
        ):
            with pytest.raises(UserError) as caught:
                refused()
            hits.search("error", str(caught.value))
    hits.search("logs", "\n".join(kept.lines))
    hits.search_store(store)
    assert not hits.wrong
    assert hits.searched["store"] > 20 and kept.lines


def test_a_patient_is_found(tmp_path: Path) -> None:
    hits, store = Hits(), open_store(str(tmp_path))
    for number in range(3):
        hits.search("here", text_of(number).encode())
    store.write_bytes("model/tiny/README.md", text_of(3).encode())
    store.write_bytes("model/tiny/model/tokenizer.json", text_of(4).encode())
    hits.search_store(store)
    assert hits.wrong == {"here": 9, "store: model README.md": 3}
