"""What follows a task's table in the report: examples, few-shot curve, paired tests, calibration, errors and facts."""

from collections.abc import Iterable

from clinical_modernbert.evaluation.report.markdown import cell, probability, ranged, table
from clinical_modernbert.evaluation.report.schema import ErrorAnalysis, Result, TaskReport, mode_name

_MOST_PAIRS = 3
_MOST_TYPES = 20


def task_details(name: str, task: TaskReport) -> list[str]:
    """Return the paragraphs of a task."""
    parts = [f"### {name}: details", *([task.note] if task.note else [])]
    counts = {
        f"{result.mode_name}: " + ", ".join(f"{count:,} {split}" for split, count in result.counts.items())
        for result in task.full_results
    }
    parts += ["Examples, " + "; ".join(sorted(counts)) + "."] if counts else []
    parts += [*_failed(task), *baseline_lines(task), *_few_shot(task.few_shot_results), *_paired_tests(task)]
    parts += _calibrations(task.full_results)
    parts += error_lines(task)
    facts = [f"- {fact.replace('_', ' ')}: {'; '.join(v)}" for fact, v in task.facts.items() if fact != "max_tokens"]
    return [*parts, "\n".join(facts)] if facts else parts


def _few_shot(results: list[Result]) -> list[str]:
    if not results:
        return []
    rows: list[list[str | int]] = [
        [
            result.encoder,
            result.mode_name,
            # A small data set may have fewer than requested.
            result.counts.get("train", result.num_train or 0),
            cell(result.metrics[result.main_metric]),
        ]
        for result in results
    ]
    return ["Few-shot:", table(["encoder", "mode", "training examples", results[0].main_metric], rows)]


def _paired_tests(task: TaskReport) -> list[str]:
    if not task.paired_tests:
        return []
    rows = [
        [
            mode_name(test.mode),
            f"{test.first} - {test.second}",
            test.metric,
            f"{ranged(test.difference, (test.low, test.high), sign='+')}",
            probability(test.p),
            probability(test.p_holm),
            f"{test.detectable:.4f}",
            f"{test.first}: {test.verdict}",
        ]
        for test in task.paired_tests
    ]
    head = ["mode", "comparison", "metric", "difference", "p", "p (Holm)", "detectable", "verdict"]
    return [table(head, rows)]


def baseline_lines(task: TaskReport) -> list[str]:
    """Return how each baseline was made, and in words where the best one is ahead of an encoder."""
    if not task.baselines:
        return []
    lines = [f"- {baseline.name}: {baseline.method}" for baseline in task.baselines]
    for result in task.full_results:
        metric = result.main_metric
        ahead = [
            b for b in task.baselines if metric in b.metrics and b.metrics[metric].mean > result.metrics[metric].mean
        ]
        for baseline in ahead:
            lines.append(
                f"- **{baseline.name} is ahead of {result.encoder} ({result.mode_name})**: {metric} "
                f"{baseline.metrics[metric].mean:.4f} against {result.metrics[metric].mean:.4f}"
            )
    return ["Trivial baselines on the same examples:\n\n" + "\n".join(lines)]


def _failed(task: TaskReport) -> list[str]:
    lines = [f"- {run.encoder}, {mode_name(run.mode)}, seed {run.seed}: {run.reason}" for run in task.failed]
    return ["Failed runs:\n\n" + "\n".join(lines)] if lines else []


def _calibrations(results: Iterable[Result]) -> list[str]:
    return [
        f"Calibration of {result.encoder} ({result.mode_name}): "
        f"Brier {ranged(found.brier, found.intervals.brier)}, expected calibration error "
        f"{ranged(found.expected_calibration_error, found.intervals.expected_calibration_error)}"
        for result in results
        if (found := result.calibration)
    ]


def error_lines(task: TaskReport) -> list[str]:
    """Return a paragraph with one line for each encoder and mode; empty without any analysis."""
    lines = [
        f"- {encoder} ({mode}): {'; '.join(sentences)}"
        for mode, encoder, analysis in task.analyses
        if (sentences := list(_sentences(analysis)))
    ]
    return ["Errors over all seeds (more in the JSON):\n\n" + "\n".join(lines)] if lines else []


def _sentences(errors: ErrorAnalysis) -> Iterable[str]:
    for pair in (errors.label_pairs or [])[:_MOST_PAIRS]:
        yield f"{pair.gold} taken for {pair.predicted} ({pair.examples:.3g})"
    by_type = sorted((errors.by_type or {}).items(), key=lambda of: -of[1].gold)[:_MOST_TYPES]
    with_recall = [
        f"{name} {of.recall:.3f} / {of.recall_words:.3f} of {of.gold:,}"
        for name, of in by_type
        if of.recall is not None and of.recall_words is not None
    ]
    yield from _listed("recall of entities / of their words, by type", with_recall)
    yield from _listed(
        "f1 by label", [f"{name} {of.f1:.3f} of {of.gold:,}" for name, of in by_type if of.recall is None]
    )
    rarity = [
        f"{name} {ranged(of.recall, (of.low, of.high), digits=3)} of {of.gold:,}"
        for name, of in (errors.recall_by_rarity or {}).items()
    ]
    yield from _listed("recall by number in training", rarity)
    by_words = (
        ("accuracy", [(bucket.words, bucket.accuracy) for bucket in errors.by_length or []]),
        ("f1", [(bucket.words, bucket.f1) for bucket in errors.by_document_words or []]),
        ("ndcg@10", [(bucket.words, bucket.ndcg_at_10) for bucket in errors.by_query_words or []]),
    )
    for metric, buckets in by_words:
        cells = [f"{least}-{most} {figure:.3f}" for (least, most), figure in buckets]
        yield from _listed(f"{metric} by words of the text", cells)
    relevant = [
        f"{name}: {of.ndcg_at_10:.3f} of {of.queries:,}" for name, of in (errors.by_relevant_documents or {}).items()
    ]
    yield from _listed("ndcg@10 by number of relevant documents", relevant)
    ranks = [f"{name}: {count:g}" for name, count in (errors.first_relevant_rank or {}).items()]
    yield from _listed("queries by the rank of their first relevant document", ranks)


def _listed(title: str, items: list[str]) -> Iterable[str]:
    if items:
        yield f"{title}: {', '.join(items)}"
