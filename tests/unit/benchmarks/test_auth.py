"""The short form of ``make drill ROW=auth`` for the endpoint; roles of the store and Ray's token have tests of their own."""

from pathlib import Path

from benchmarks.drills import auth
from tests.helpers.served_models import publish_model


def test_each_route_refuses_each_wrong_key(tmp_path: Path) -> None:
    publish_model(tmp_path / "store", tmp_path / "export")
    answers = auth.Answers()
    auth.ask_endpoint(tmp_path / "store", tmp_path, answers)
    assert answers.wrong == []
    assert answers.right["endpoint"] > 100
