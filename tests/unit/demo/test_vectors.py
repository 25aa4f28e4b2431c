"""Overrides of ``make vectors``: what the two runs decide is refused, a mistake is told before the pair set is built."""

from pathlib import Path

import pytest
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.demo import vectors
from clinical_modernbert.demo.vectors import run_vectors
from clinical_modernbert.errors import RecipeError


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("training.split=all", "training.split cannot be set here"),
        ("training.split=train", "training.split cannot be set here"),
        ("training={split: all, num_steps: 2}", "training.split cannot be set here"),
        ("name=mine", "name cannot be set here"),
        ("pairs=other", "pairs cannot be set here"),
        ("nope=1", "nope: unknown key"),
        ("training.num_step=3", "training.num_step: unknown key"),
        ("training.num_steps", "must have the form"),
    ],
)
def test_an_override_is_refused_before_the_pair_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, told: str
) -> None:
    monkeypatch.setattr(vectors, "build_pairs", lambda plan: pytest.fail("the pair set was built"))
    with pytest.raises(RecipeError, match=told):
        run_vectors(open_store(str(tmp_path)), data=None, overrides=[override])
