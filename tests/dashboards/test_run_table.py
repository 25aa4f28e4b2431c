"""The table of runs: conditions on recipe fields and figures, fields that vary, and groups."""

import pytest
from clinical_modernbert.errors import UserError
from panels.run_table import Run, grouped_by, matching, varying


def run(name: str, loss: float | None, **fields: object) -> Run:
    return Run(name, {"run": name, "held-out loss": loss}, {path.replace("__", "."): v for path, v in fields.items()})


RUNS = [
    run("base-1", 2.5, optimizer__learning_rate=1e-3, masking__strategy="uniform", training__seed=0),
    run("base-2", 2.0, optimizer__learning_rate=3e-3, masking__strategy="token_aware", training__seed=0),
    run("large-1", None, optimizer__learning_rate=3e-3, masking__strategy="uniform", training__seed=0, merge__rate=1),
]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["base-1", "base-2", "large-1"]),
        ("BASE", ["base-1", "base-2"]),
        ("optimizer.learning_rate=0.003", ["base-2", "large-1"]),
        ("learning_rate>0.001 strategy=uniform", ["large-1"]),
        ("strategy!=uniform", ["base-2"]),
        ("held-out_loss<2.2", ["base-2"]),
        ("strategy>3", []),
        ("merge.rate=1", ["large-1"]),
    ],
)
def test_a_filter_keeps_the_runs_that_meet_all_conditions(query: str, found: list[str]) -> None:
    assert [one.id for one in matching(RUNS, query)] == found


def test_a_condition_on_no_field_is_refused() -> None:
    assert matching(RUNS, "=1") == []  # a word that no run has
    with pytest.raises(UserError, match=r"no field ends with 'optimizer.learning_rat': optimizer.learning_rate"):
        matching(RUNS, "optimizer.learning_rat=1")


def test_only_fields_that_differ_or_are_absent_somewhere_are_offered() -> None:
    assert varying(RUNS) == ["masking.strategy", "merge.rate", "optimizer.learning_rate"]


def test_groups_have_their_mean_and_best_run_first() -> None:
    first, second = grouped_by(RUNS, "masking.strategy")
    assert (first["masking.strategy"], first["runs"], first["least of"]) == ("token_aware", 1, "base-2")
    assert (second["runs"], second["mean held-out loss"], second["least held-out loss"]) == (2, 2.5, 2.5)
    assert grouped_by(RUNS[2:], "training.seed")[0]["least of"] is None
