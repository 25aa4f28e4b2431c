"""The paper's tables 4, 6, 7 and 8 as the paper lays them out: a row an encoder, ours first, the paper's beside as "reported".

Sets that are in none of its tables stand in tables of the same form, one for each kind of task.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from clinical_modernbert.evaluation.report import reported
from clinical_modernbert.evaluation.tasks import KINDS

_NONE = "–"


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of a task."""

    task: str
    metric: str
    title: str
    reported: str | None = None
    """How ``reported`` names the paper's figure, where that is not the metric's own name."""


_TABLE_6 = (
    Column("ehr", "auroc", "EHR AUROC"),
    Column("pubmed-nct", "accuracy", "PubMed-NCT accuracy"),
    Column("pubmed-nct", "f1_macro", "PubMed-NCT F1 macro", reported.UNSAID_F1),
    Column("pubmed-nct", "f1_weighted", "PubMed-NCT F1 weighted", reported.UNSAID_F1),
    Column("medner", "token_accuracy", "MedNER accuracy"),
    Column("medner", "f1", "MedNER F1"),
)
_TABLE_8 = tuple(Column(f"i2b2-{year}", "f1", f"i2b2 ({year})") for year in (2006, 2010, 2012, 2014))


def tables_6_to_8(report: dict[str, Any]) -> Iterable[tuple[str, list[str], list[str]]]:
    """Yield (title, Markdown parts, the tasks in it) of each table that has a task, measured or skipped."""
    tasks = [*report["tasks"], *report["skipped"]["tasks"]]
    unsaid = "The paper does not say which F1 it means for PubMed-NCT: its figure stands in both columns."
    short = list(dict.fromkeys(column.task for column in _TABLE_6 if column.task in tasks))
    if short:
        yield "Table 6: short context", [_scores(report, _TABLE_6), unsaid], short
    patients = [name for name in tasks if name.startswith("pmc-patients")]
    if patients:
        yield "Table 7: retrieval", _retrieval(report, patients), patients
    long = [name for name in tasks if name.startswith("i2b2-")]
    if long:
        yield "Table 8: long context, F1", [_scores(report, _TABLE_8)], long
    rest = [name for name in report["tasks"] if name not in (*short, *patients, *long)]
    for name_of_kind, kind in KINDS.items():
        names = [name for name in rest if report["tasks"][name]["type"] == name_of_kind]
        columns = [Column(name, metric, f"{name} {metric}") for name in names for metric in kind.SHOWN]
        if names:
            sampled = "paper_queries" in report["tasks"][names[0]]["results"][0]
            parts = _retrieval(report, names) if sampled else [_scores(report, columns)]
            yield f"Further sets: {kind.TITLE}", parts, names


def _results(report: dict[str, Any], task: str) -> list[dict[str, Any]]:
    """Return the results on all training examples."""
    return [r for r in report["tasks"].get(task, {"results": []})["results"] if r["num_train"] is None]


def _scores(report: dict[str, Any], columns: Sequence[Column]) -> str:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for task in dict.fromkeys(column.task for column in columns):
        for result in _results(report, task):
            found.setdefault((result["encoder"], result["mode"]), {})[task] = result["metrics"]
    own = [
        (encoder, mode.replace("_", "-"), [_measured(by_task, column) for column in columns])
        for (encoder, mode), by_task in found.items()
    ]
    paper = {
        encoder: [_reported(encoder, column.task, column.reported or column.metric) for column in columns]
        for encoder in reported.ENCODERS
    }
    return table(["encoder", "mode", *(column.title for column in columns)], _beside(own, paper))


def _beside(own: Sequence[tuple[str, str, list[str]]], paper: dict[str, list[str]]) -> Iterable[tuple[str, ...]]:
    """Yield the rows of each encoder, the paper's behind them, then what the paper alone has."""
    names = dict.fromkeys(encoder for encoder, _, _ in own)
    for name in names:
        yield from ((encoder, mode, *cells) for encoder, mode, cells in own if encoder == name)
        yield from _reported_row(name, paper)
    for name in paper:
        if name not in names:
            yield from _reported_row(name, paper)


def _reported_row(name: str, paper: dict[str, list[str]]) -> Iterable[tuple[str, ...]]:
    if any(cell_ != _NONE for cell_ in paper.get(name, ())):
        yield (name, "reported", *paper[name])


def _measured(by_task: dict[str, Any], column: Column) -> str:
    return cell(by_task[column.task][column.metric]) if column.task in by_task else _NONE


def _reported(encoder: str, task: str, metric: str) -> str:
    figures = next((f for t, m, f in reported.TABLES_6_TO_8 if (t, m) == (task, metric)), None)
    return _NONE if figures is None else f"{figures[reported.ENCODERS.index(encoder)]:.4g}"


def _retrieval(report: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Return a table for each set: over all its queries, and over as many as the paper asked."""
    metrics = KINDS["retrieval"].SHOWN
    parts = []
    for name in names:
        rows: list[tuple[str, str, list[str]]] = []
        for result in _results(report, name):
            counted = [(result["groups"], result["metrics"])]
            sample = result["paper_queries"]
            if sample["queries"] < result["groups"]:
                counted.append((sample["queries"], sample["metrics"]))
            for queries, figures in counted:
                cells = [f"{queries:,}", *(cell(figures[metric]) for metric in metrics)]
                rows.append((result["encoder"], result["mode"].replace("_", "-"), cells))
        paper = {e: ["128", *(_reported(e, name, metric) for metric in metrics)] for e in reported.ENCODERS}
        known = any(task == name for task, _, _ in reported.TABLES_6_TO_8)
        head = ["encoder", "mode", "queries", *metrics]
        parts += [f"### {name}", table(head, _beside(rows, paper if known else {}))]
        if known:
            parts.append(
                "The paper does not say whether it looks for similar patients (PPR) or articles (PAR), nor which 128."
            )
    return parts


def table_4(report: dict[str, Any]) -> list[str]:
    """Return the masked tokens of every model that has the corpus' tokenizer, of counting, and as reported."""
    if "masks" not in report:
        return []
    top_k = [str(k) for k in report["top_k"]]
    rows: list[list[str]] = []
    for mask, figures in report["masks"].items():
        found = {report["model"]: (figures["model"], figures["intervals"]["model"])}
        for name, other in report["other_masks"].items():
            found[name] = other[mask]["model"], other[mask]["intervals"]["model"]
        found |= {who: (figures[who], ranges) for who, ranges in figures["intervals"].items() if who != "model"}
        for who, (shares, ranges) in found.items():
            rows.append([who, mask, *(_share(shares[k], ranges[k]) for k in top_k)])
    paper = [f"{reported.TABLE_4[k]:.2f}%" if k in reported.TABLE_4 else _NONE for k in top_k]
    rows.append(["clinical-modernbert, reported", "its own", *paper])
    skipped = [f"- {name}: {why}" for name, why in report["skipped"]["masks"].items()]
    text = (
        "Share of hidden tokens among the first k guesses; in brackets a 95 % bootstrap interval over documents. Only models "
        "with the corpus' tokenizer are asked the same questions."
    )
    parts = ["## Table 4: masked tokens", text, table(["model", "mask", *(f"top-{k}" for k in top_k)], rows)]
    return [*parts, "Not asked:\n\n" + "\n".join(skipped)] if skipped else parts


def _share(share: float, interval: Sequence[float]) -> str:
    return f"{share:.2%} [{interval[0]:.2%}, {interval[1]:.2%}]"


def cell(figures: dict[str, Any]) -> str:
    """Return a mean with its interval."""
    return f"{figures['mean']:.4f} [{figures['low']:.4f}, {figures['high']:.4f}]"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(value).replace('|', '/') for value in line)} |" for line in lines)
