"""Waits grow, an outage is one line in the log, and the first error is the one that is reported."""

import logging

import pytest
from clinical_modernbert import outages
from clinical_modernbert.errors import ModelError, StoreError
from clinical_modernbert.outages import Outage, patiently
from clinical_modernbert.progress import polling


def test_waits_grow_to_a_minute_and_start_anew_after_a_success(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage("reading")
    with caplog.at_level(logging.WARNING):
        assert [outage.failed(StoreError("away")) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
        outage.ended()
        outage.ended()
    assert [record.getMessage() for record in caplog.records] == [
        "reading failed and is tried again: StoreError: away",
        "reading works again",
    ]
    assert outage.failed(StoreError("away")) == 1


def test_patience_ends_with_the_first_error() -> None:
    waits: list[float] = []
    errors = iter([StoreError("refused"), StoreError("timeout"), StoreError("timeout")])

    def fail() -> None:
        raise next(errors)

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == 3

    with pytest.raises(StoreError, match="refused"):
        patiently(fail, work="writing", wait=wait)
    assert waits == [1, 2, 4]


def test_only_errors_of_the_store_are_tried_again() -> None:
    tried = []

    def fail() -> None:
        tried.append(1)
        raise ModelError("wrong")

    with pytest.raises(ModelError):
        patiently(fail, work="writing", wait=lambda s: None)
    assert len(tried) == 1


def test_polling_looks_again_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "FIRST_WAIT_S", 0.01)
    looks = []

    def look() -> None:
        looks.append(1)
        if len(looks) in (1, 2):
            raise StoreError("away")

    with polling(look, every_s=0.01):
        while len(looks) < 4:
            pass
