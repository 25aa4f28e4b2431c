"""The report as Markdown: measured figures in the layout of the paper's tables, with the paper's figures as "reported"."""

from clinical_modernbert.evaluation.report import reported
from clinical_modernbert.evaluation.report.details import task_details
from clinical_modernbert.evaluation.report.figures import figure_2, figure_3
from clinical_modernbert.evaluation.report.markdown import table
from clinical_modernbert.evaluation.report.paired_tests import MIN_SEEDS
from clinical_modernbert.evaluation.report.schema import Comparison, Report
from clinical_modernbert.evaluation.report.tables import table_4, task_tables


def render(report: Report) -> str:
    """Return the whole report."""
    comparison = report.comparison
    parts = ["# Evaluation", *(_preface(comparison) if comparison else [])]
    if report.table_4:
        parts += table_4(report.table_4, comparison.skipped if comparison else None)
    if comparison:
        parts += _statistics(comparison)
        for group in task_tables(comparison):
            parts += [f"## {group.title}", *group.parts]
            for name in group.tasks:
                parts += task_details(name, comparison.tasks[name]) if name in comparison.tasks else []
    parts += figure_2(report.codes) if report.codes else []
    parts += figure_3(report.efficiency) if report.efficiency else []
    return "\n\n".join(parts) + "\n"


def _preface(comparison: Comparison) -> list[str]:
    rows: list[list[str | int]] = [
        [name, facts.origin, facts.architecture, facts.max_tokens, facts.pooling]
        for name, facts in comparison.encoders.items()
    ]
    parts = [table(["encoder", "origin", "architecture", "limit, tokens", "pooling"], rows)]
    parts.append(
        f"Figures are means over seeds {', '.join(map(str, comparison.seeds))}; in brackets the 95 % interval of the figure "
        "expected of another seed on other groups (patients, abstracts, documents, queries; t interval of logits, "
        f"{comparison.num_resamples} resamples of the groups). A method without seeds (zero-shot, baselines) has an interval "
        "over groups alone. p: t test over seeds and groups, with Holm's correction over the comparisons of a mode. With fewer "
        f"than {MIN_SEEDS} seeds of a trained encoder there is no verdict. Detectable: the difference that the test finds in "
        'four of five repetitions. "Reported" figures are the paper\'s, on its own data and splits.'
    )
    parts += _contamination(comparison)
    skipped = comparison.skipped
    lines = [
        f"- {name}: {why}" for of in (skipped.encoders, skipped.artifacts, skipped.tasks) for name, why in of.items()
    ]
    return [*parts, "Skipped:\n\n" + "\n".join(lines)] if lines else parts


def _contamination(comparison: Comparison) -> list[str]:
    """Return a line for each encoder and each finding about it."""
    lines = []
    for name, facts in comparison.encoders.items():
        tasks: dict[str, list[str]] = {}
        for task, finding in facts.contamination.items():
            tasks.setdefault(finding, []).append(task)
        lines += [f"- {name}: {finding} ({', '.join(of_finding)})" for finding, of_finding in tasks.items()]
    return ["Were the reported texts in the training corpus?\n\n" + "\n".join(lines)] if lines else []


def _statistics(comparison: Comparison) -> list[str]:
    rows = []
    for name, facts in comparison.statistics.items():
        paper = reported.TABLE_3.get(name)
        rows.append(
            [
                name,
                f"{facts.samples:,}",
                f"{facts.mean_words:.1f} / {facts.most_words:,}",
                f"{facts.mean_tokens:.1f} / {facts.most_tokens:,}",
                f"{paper[0]:,}; {paper[1]:,} / {paper[2]:,}" if paper else "",
            ]
        )
    if not rows:
        return []
    tokens_of = next(iter(comparison.statistics.values())).tokens_of
    head = ["set", "samples", "words, mean / most", f"tokens of {tokens_of}, mean / most", "reported"]
    return ["## Table 3: the data sets", table(head, rows)]
