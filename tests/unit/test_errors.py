"""Errors for users cross processes: Ray sends them from workers to the driver."""

import copy
from collections.abc import Iterator

import pytest
from clinical_modernbert.errors import RunStopped, UserError
from clinical_modernbert.evaluation import encoders, tuning
from clinical_modernbert.training import checkpoint

_MODULES = (encoders, tuning, checkpoint)  # those with errors of their own


def kinds(of: type[Exception]) -> Iterator[type[Exception]]:
    yield of
    for kind in of.__subclasses__():
        yield from kinds(kind)


@pytest.mark.parametrize("kind", sorted({*kinds(UserError), RunStopped}, key=lambda kind: kind.__name__))
def test_an_error_is_made_again_from_its_message(kind: type[Exception]) -> None:
    """As pickle does, which gives the class what the exception holds in ``args``."""
    again = copy.copy(kind("step 3"))
    assert type(again) is kind and str(again) == "step 3"
    made = checkpoint.UploadRefusedError.of("the model", "4711")
    assert str(copy.copy(made)) == str(made)
