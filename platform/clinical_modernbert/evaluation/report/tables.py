"""Tables 4, 6, 7 and 8 in the paper's layout: one row an encoder, the paper's figures after it as "reported".

Tasks that are in none of the paper's tables are in tables of the same form, one for each kind of task.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from clinical_modernbert.evaluation.report import reported
from clinical_modernbert.evaluation.report.markdown import NONE, NOT_DEFINED, cell, percentage, table
from clinical_modernbert.evaluation.report.reported import Column
from clinical_modernbert.evaluation.report.schema import (
    Comparison,
    Metric,
    Range,
    Result,
    Shares,
    Skipped,
    Table4,
    mode_name,
)
from clinical_modernbert.evaluation.tasks import KINDS


@dataclass(frozen=True, slots=True)
class TaskTable:
    """A table of the report, or several below one heading."""

    title: str
    parts: list[str]
    """Markdown paragraphs."""
    tasks: list[str]
    """Whose details follow."""


@dataclass(frozen=True, slots=True)
class _Row:
    encoder: str
    mode: str
    cells: list[str]


def task_tables(comparison: Comparison) -> Iterable[TaskTable]:
    """Yield each table that has a task, measured or skipped."""
    for paper_table in reported.TASK_TABLES:
        names = [name for name in comparison.task_names if name in paper_table.tasks]
        if not names:
            continue
        if paper_table.kind:
            parts = _sampled(comparison, names, KINDS[paper_table.kind].SHOWN, note=paper_table.note)
        else:
            parts = [_scores(comparison, paper_table.columns), *([paper_table.note] if paper_table.note else [])]
        yield TaskTable(paper_table.title, parts, names)
    for kind, module in KINDS.items():
        names = [n for n, task in comparison.tasks.items() if task.type == kind and n not in reported.PAPER_TASKS]
        if names:
            columns = [Column(name, metric, f"{name} {metric}") for name in names for metric in module.SHOWN]
            sampled = any(result.paper_queries for result in _results(comparison, names[0]))
            parts = _sampled(comparison, names, module.SHOWN) if sampled else [_scores(comparison, columns)]
            yield TaskTable(f"Further sets: {module.TITLE}", parts, names)


def _results(comparison: Comparison, task: str) -> list[Result]:
    return comparison.tasks[task].full_results if task in comparison.tasks else []


def _scores(comparison: Comparison, columns: Sequence[Column]) -> str:
    """Return one table with a column for each metric of each task."""
    metrics: dict[tuple[str, str], dict[str, Mapping[str, Metric]]] = {}
    for task in dict.fromkeys(column.task for column in columns):
        for encoder, mode, figures in _rows(comparison, task):
            metrics.setdefault((encoder, mode), {})[task] = figures
    measured = [
        _Row(encoder, mode, [_cell(by_task.get(column.task), column.metric) for column in columns])
        for (encoder, mode), by_task in metrics.items()
    ]
    paper = {
        encoder: [_reported(encoder, column.task, column.reported_metric or column.metric) for column in columns]
        for encoder in reported.ENCODERS
    }
    return table(["encoder", "mode", *(column.title for column in columns)], _with_reported(measured, paper))


def _rows(comparison: Comparison, task: str) -> Iterable[tuple[str, str, Mapping[str, Metric]]]:
    """Yield (encoder, mode, metrics): the results, the encoders whose runs all failed, then the trivial baselines."""
    if task not in comparison.tasks:
        return
    found = comparison.tasks[task]
    for result in found.full_results:
        yield result.encoder, result.mode_name, result.metrics
    measured = {(result.encoder, result.mode) for result in found.full_results}
    for run in found.failed:
        if (run.encoder, run.mode) not in measured:
            yield run.encoder, f"{mode_name(run.mode)}, failed", {}
    for baseline in found.baselines:
        yield baseline.name, "baseline", baseline.metrics


def _cell(metrics: Mapping[str, Metric] | None, name: str) -> str:
    """Return a figure; a dash without any run of the task, ``not defined`` where the run has no such figure."""
    if not metrics:
        return NONE
    return cell(metrics[name]) if name in metrics else NOT_DEFINED


def _with_reported(measured: Sequence[_Row], paper: Mapping[str, list[str]]) -> Iterable[list[str]]:
    """Yield the rows of each encoder, each followed by the paper's, then the encoders that only the paper has."""
    for name in dict.fromkeys([*(row.encoder for row in measured), *paper]):
        yield from ([row.encoder, row.mode, *row.cells] for row in measured if row.encoder == name)
        if any(figure != NONE for figure in paper.get(name, ())):
            yield [name, "reported", *paper[name]]


def _reported(encoder: str, task: str, metric: str) -> str:
    figures = reported.task_figures(task).get(metric)
    return NONE if figures is None else f"{figures[encoder]:.4g}"


def _sampled(comparison: Comparison, names: Sequence[str], metrics: Sequence[str], *, note: str = "") -> list[str]:
    """Return a table for each task: over all its queries, and over a sample of the paper's size."""
    parts = []
    for name in names:
        rows = []
        for result in _results(comparison, name):
            counted = [(result.groups, result.metrics)]
            sample = result.paper_queries
            if sample and sample.queries < result.groups:
                counted.append((sample.queries, sample.metrics))
            for num_queries, figures in counted:
                cells = [f"{num_queries:,}", *(cell(figures[metric]) for metric in metrics)]
                rows.append(_Row(result.encoder, result.mode_name, cells))
        for baseline in comparison.tasks[name].baselines if name in comparison.tasks else ():
            num_queries = comparison.tasks[name].full_results[0].groups
            cells = [f"{num_queries:,}", *(_cell(baseline.metrics, metric) for metric in metrics)]
            rows.append(_Row(baseline.name, "baseline", cells))
        in_paper = bool(reported.task_figures(name))
        paper = {e: [str(reported.NUM_QUERIES), *(_reported(e, name, m) for m in metrics)] for e in reported.ENCODERS}
        head = ["encoder", "mode", "queries", *metrics]
        parts += [f"### {name}", table(head, _with_reported(rows, paper if in_paper else {}))]
        parts += [note] if in_paper and note else []
    return parts


def table_4(figures: Table4, skipped: Skipped | None) -> list[str]:
    """Return the masked tokens of every model with the corpus' tokenizer, of the counting baselines, and as reported."""
    rows: list[list[str]] = []
    for mask, of_mask in figures.masks.items():
        predictors: list[tuple[str, Shares, Mapping[str, Range]]] = [
            (figures.model or "model", of_mask.shares["model"], of_mask.intervals["model"])
        ]
        for name, other in (figures.other_masks or {}).items():
            predictors.append((name, other[mask].shares["model"], other[mask].intervals["model"]))
        predictors += [(name, of_mask.shares[name], of_mask.intervals[name]) for name in of_mask.baselines]
        for name, shares, ranges in predictors:
            rows.append([name, mask, *(percentage(shares[k], ranges[k]) for k in figures.keys)])
    paper = [f"{reported.TABLE_4[k]:.2f}%" if k in reported.TABLE_4 else NONE for k in figures.keys]
    rows.append(["clinical-modernbert, reported", "its own", *paper])
    text = (
        "Share of hidden tokens among the first k guesses; in brackets a 95 % bootstrap interval over documents. It is of this "
        "one trained model and says nothing about another training run. Only models with the corpus' tokenizer can be scored on "
        "the same tokens."
    )
    parts = ["## Table 4: masked tokens", text, table(["model", "mask", *(f"top-{k}" for k in figures.keys)], rows)]
    if skipped and skipped.masks:
        parts.append("Not scored:\n\n" + "\n".join(f"- {name}: {reason}" for name, reason in skipped.masks.items()))
    return parts
