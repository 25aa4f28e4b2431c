"""Waiting for an artifact that is not finished yet."""

import logging

import pytest
from clinical_modernbert.artifacts import wait_until_there
from clinical_modernbert.errors import AbsentArtifactError, ArtifactError, StoreError, StoreOutage


class Looks:
    """Answers of successive looks; an exception is raised."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)

    def __call__(self) -> str:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_an_absent_artifact_is_waited_for_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    absent = AbsentArtifactError("no corpus 'demo' in s3://bucket")
    with caplog.at_level(logging.WARNING):
        assert wait_until_there(Looks(absent, StoreOutage("away"), "corpus"), pause_s=0) == "corpus"

    assert [record.getMessage() for record in caplog.records] == [
        "waiting, next look in 0 s: no corpus 'demo' in s3://bucket"
    ]


def test_the_reason_is_given_at_each_look() -> None:
    """What shows it forgets a reason that is not repeated."""
    reasons: list[str] = []
    absent = AbsentArtifactError("no corpus 'demo'")
    wait_until_there(Looks(absent, absent, StoreOutage("away"), "corpus"), pause_s=0, on_wait=reasons.append)

    assert reasons == ["no corpus 'demo'", "no corpus 'demo'", "away"]


def test_an_absent_artifact_is_an_error_after_the_patience() -> None:
    looks = Looks(AbsentArtifactError("no corpus 'demo'"), "too late")
    with pytest.raises(AbsentArtifactError):
        wait_until_there(looks, patience_s=0)

    assert looks.answers == ["too late"]


def test_what_time_does_not_change_is_an_error_at_once() -> None:
    for error in (ArtifactError("corpus 'demo' is ambiguous"), StoreError("AccessDenied")):
        with pytest.raises(type(error), match=str(error)):
            wait_until_there(Looks(error), pause_s=0)
