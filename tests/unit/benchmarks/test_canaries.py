"""The short form of ``make drill ROW=canaries``: the endpoint; jobs are in the tests of corpora and bulk vectors."""

from pathlib import Path

from benchmarks.drills import canaries
from tests.helpers.served_models import publish_model


def test_no_refusal_log_or_metric_of_the_endpoint_has_a_patient(tmp_path: Path) -> None:
    publish_model(tmp_path / "store", tmp_path / "export")
    hits = canaries.Hits()
    canaries.ask_endpoint(tmp_path / "store", hits, num_patients=100)
    assert not hits.wrong
    assert hits.searched["refusal"] > 50 and hits.searched["logs"] == hits.searched["metrics"] == 1


def test_a_patient_is_found() -> None:
    hits = canaries.Hits()
    for number in range(3):
        hits.search("here", canaries.text_of(number).encode())
    assert hits.wrong == {"here": 9}
