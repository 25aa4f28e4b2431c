"""Measured figures are in the layout of the paper's tables, next to reported ones; what is absent leaves a gap, not a row out."""

from typing import Any

import pytest
from clinical_modernbert.evaluation.report import reported
from clinical_modernbert.evaluation.report.schema import Report, read_report
from clinical_modernbert.evaluation.report.text import render
from clinical_modernbert.evaluation.tasks import KINDS

KIND_OF_TASK = {"ehr": "disposition", "medner": "entities", "pmc-patients": "retrieval", "mine": "entities"}


def figure(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "seeds": [mean], "std_over_seeds": None}


def result(kind: str, encoder: str, mode: str, mean: float) -> dict[str, Any]:
    metrics = {metric: figure(mean) for metric in KINDS[kind].SHOWN}
    found = {
        "encoder": encoder,
        "mode": mode,
        "num_train": None,
        "metrics": metrics,
        "main_metric": KINDS[kind].SHOWN[0],
        "groups": 300,
        "seeds": [0],
        "artifacts": [],
        "counts": {"train": 9, "test": 3},
    }
    if kind == "retrieval":
        found["paper_queries"] = {"queries": 128, "metrics": {metric: figure(mean / 2) for metric in metrics}}
    return found


def report(**changes: Any) -> Report:
    tasks = {
        name: {
            "type": kind,
            "note": "",
            "results": [
                result(kind, encoder, mode, mean)
                for encoder, mode, mean in (
                    ("own", "fine_tuned", 0.91),
                    ("own", "frozen", 0.61),
                    ("biobert", "fine_tuned", 0.81),
                )
            ],
            "paired_tests": [],
            "facts": {},
        }
        for name, kind in KIND_OF_TASK.items()
    }
    values = {
        "encoders": {},
        "skipped": {
            "encoders": {"modernbert": "not in the cache"},
            "artifacts": {"model": "no model 'paper'"},
            "tasks": {"i2b2-2014": "i2b2/2014 does not exist"},
            "masks": {"biobert": "another tokenizer"},
        },
        "seeds": [0],
        "num_resamples": 100,
        "tuning": {},
        "statistics": {},
        "tasks": tasks,
        **changes,
    }
    return read_report(values, called="made up")


def rows(text: str, title: str) -> list[list[str]]:
    """Return the cells of the first table below a heading."""
    lines = text.split(f"## {title}")[1].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return [found[0], *found[2:]]


def test_table_6_has_a_row_an_encoder_and_the_papers_beside() -> None:
    head, *body = rows(render(report()), "Table 6")
    assert head == ["encoder", "mode", "EHR AUROC", "PubMed-NCT accuracy", "PubMed-NCT F1 macro",
                    "PubMed-NCT F1 weighted", "MedNER accuracy", "MedNER F1"]  # fmt: skip
    assert [row[:2] for row in body[:4]] == [
        ["own", "fine-tuned"],
        ["own", "frozen"],
        ["biobert", "fine-tuned"],
        ["biobert", "reported"],
    ]
    assert body[0][2:] == ["0.9100 [0.9000, 0.9200]", "–", "–", "–", *["0.9100 [0.9000, 0.9200]"] * 2]
    # The paper's F1 of PubMed-NCT stands in both columns: which it is, is not said.
    assert body[3][2:] == ["0.968", "0.9179", "0.9187", "0.9187", "0.909", "0.794"]
    assert {row[0] for row in body} == {"own", *reported.ENCODERS}


def test_table_7_counts_all_queries_and_as_many_as_the_paper() -> None:
    text = render(report())
    head, *body = rows(text, "Table 7")
    assert head == ["encoder", "mode", "queries", *KINDS["retrieval"].SHOWN]
    assert [row[2] for row in body[:2]] == ["300", "128"]
    assert body[1][3] == "0.4550 [0.4450, 0.4650]"
    assert ["biobert", "reported", "128", "0.1956", "0.0489", "0.1866", "0.1827"] in body


def test_an_absent_set_keeps_its_table_and_is_said() -> None:
    text = render(report())
    head, *body = rows(text, "Table 8")
    assert head[2:] == [f"i2b2 ({year})" for year in (2006, 2010, 2012, 2014)]
    assert all(row[1] == "reported" for row in body) and len(body) == 6
    for line in ("i2b2-2014: i2b2/2014 does not exist", "modernbert: not in the cache", "model: no model 'paper'"):
        assert f"- {line}" in text
    further, *_ = rows(text, "Further sets: entities")
    assert further == ["encoder", "mode", *(f"mine {name}" for name in KINDS["entities"].SHOWN)]


@pytest.mark.parametrize("others", [{}, {"sibling": 0.2}])
def test_table_4_names_models_counting_and_the_papers(others: dict[str, float]) -> None:
    def shares(value: float) -> dict[str, Any]:
        return {str(k): value for k in (1, 5)}

    def ranges(value: float) -> dict[str, Any]:
        return {str(k): [value - 0.1, value + 0.1] for k in (1, 5)}

    def figures(**values: float) -> dict[str, Any]:
        return {
            "loss": 2.0,
            "tokens": 90,
            "documents": 9,
            "intervals": {name: ranges(value) for name, value in values.items()},
            **{name: shares(value) for name, value in values.items()},
            "sources": {},
        }

    other = {name: {"uniform": figures(model=value)} for name, value in others.items()}
    masks = {"uniform": figures(model=0.5, unigram=0.3)}
    text = render(report(masks=masks, top_k=[1, 5], rows=9, model="own-0", other_masks=other))
    head, *body = rows(text, "Table 4")
    assert head == ["model", "mask", "top-1", "top-5"]
    assert [row[0] for row in body] == ["own-0", *others, "unigram", "clinical-modernbert, reported"]
    assert body[0][2] == "50.00% [40.00%, 60.00%]" and body[-1][2:] == ["63.31%", "79.67%"]
    if others:
        assert body[1][2] == "20.00% [10.00%, 30.00%]"
    assert "- biobert: another tokenizer" in text
