"""Finished runs to a report: figures with intervals over seeds, paired tests, calibration, errors and data set statistics.

The report holds counts and figures. Texts are quoted only from data sets marked as public.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.report.calibration import calibration
from clinical_modernbert.evaluation.report.schema import (
    Comparison,
    EncoderFacts,
    ErrorAnalysis,
    Metric,
    PairedTest,
    PaperQueries,
    Result,
    SetStatistics,
    Skipped,
    TaskReport,
)
from clinical_modernbert.evaluation.results import Finished
from clinical_modernbert.evaluation.runs import read_scored
from clinical_modernbert.evaluation.scores import Scored, interval, paired_test
from clinical_modernbert.evaluation.tasks import KINDS, load_task, main_metric
from clinical_modernbert.evaluation.tasks.windows import encode_texts
from clinical_modernbert.recipe import EvaluateRecipe
from clinical_modernbert.recipe.tasks import Mode, Task
from clinical_modernbert.statistics import holm
from clinical_modernbert.tokenizer import load_tokenizer

_WHOLE = 1 << 30
"""A limit of tokens that no text reaches."""


def compare(
    recipe: EvaluateRecipe, finished: Sequence[Finished], *, encoders: Sequence[LocalEncoder], skipped: Skipped
) -> Comparison:
    """Return the report's section on tasks; the first encoder's tokenizer counts the tokens of the data sets."""
    tasks = {run.recipe.task.name: run.recipe.task for run in finished}
    return Comparison(
        encoders={encoder.name: _encoder_facts(encoder) for encoder in encoders},
        skipped=skipped,
        seeds=list(recipe.seeds),
        num_resamples=recipe.num_resamples,
        tuning=recipe.tuning.model_dump(mode="json"),
        statistics={name: statistics(task, recipe.data, encoders[0]) for name, task in tasks.items()},
        tasks={
            name: task_report(task, [run for run in finished if run.recipe.task.name == name], recipe)
            for name, task in tasks.items()
        },
    )


def _encoder_facts(encoder: LocalEncoder) -> EncoderFacts:
    return EncoderFacts(
        origin=encoder.origin,
        architecture=encoder.architecture,
        max_tokens=encoder.max_tokens,
        pooling=encoder.pooling,
        digest=encoder.digest[:12],
    )


def statistics(task: Task, data: str, encoder: LocalEncoder) -> SetStatistics:
    """Return Table 3's columns for a whole data set: samples, mean and longest length in words and in the encoder's tokens."""
    texts = load_task(task.model_copy(update={"max_train": None, "max_test": None}), data).texts()
    words = [len(text.split()) for text in texts]
    tokens = [len(ids) for ids in encode_texts(load_tokenizer(encoder.folder), texts, max_tokens=_WHOLE)[0]]
    return SetStatistics(
        samples=len(texts),
        mean_words=float(np.mean(words)),
        most_words=max(words),
        mean_tokens=float(np.mean(tokens)),
        most_tokens=max(tokens),
        tokens_of=encoder.name,
    )


def task_report(task: Task, runs: Sequence[Finished], recipe: EvaluateRecipe) -> TaskReport:
    """Return the figures of every encoder, mode and number of training examples, their tests, errors and facts."""
    groups: dict[tuple[Mode, int | None, str], list[Finished]] = {}
    for run in runs:
        groups.setdefault((run.mode, run.recipe.num_train, run.recipe.encoder.name), []).append(run)
    scored = {key: [read_scored(run.artifact) for run in group] for key, group in groups.items()}
    results = [_result(task, group, scored[key], recipe) for key, group in groups.items()]
    full = {(mode, encoder): outcomes for (mode, size, encoder), outcomes in scored.items() if size is None}
    return TaskReport(
        type=task.type,
        note=task.note,
        results=results,
        paired_tests=_paired_tests(task, full, recipe),
        errors=_errors(task, groups, recipe),
        facts=_facts(runs),
    )


def _result(task: Task, runs: Sequence[Finished], outcomes: list[Scored], recipe: EvaluateRecipe) -> Result:
    first = runs[0]
    metrics = _metrics(outcomes, recipe)
    is_full = first.recipe.num_train is None
    sample_size = KINDS[task.type].sample_size(task) if is_full else None
    return Result(
        encoder=first.recipe.encoder.name,
        mode=first.mode,
        num_train=first.recipe.num_train,
        metrics=metrics,
        main_metric=main_metric(task.type, metrics),
        groups=outcomes[0].num_groups,
        seeds=[run.recipe.seed for run in runs],
        artifacts=[f"{run.artifact.manifest.kind}/{run.artifact.manifest.id}" for run in runs],
        counts=first.artifact.summary["counts"],
        calibration=calibration(outcomes, num_resamples=recipe.num_resamples)
        if is_full and "auroc" in metrics
        else None,
        paper_queries=_paper_queries(outcomes, recipe, sample_size) if sample_size is not None else None,
    )


def _metrics(outcomes: list[Scored], recipe: EvaluateRecipe) -> dict[str, Metric]:
    metrics = {}
    for name in outcomes[0].figures():
        mean, low, high = interval(outcomes, name, num_resamples=recipe.num_resamples)
        by_seed = [outcome.figures()[name] for outcome in outcomes]
        spread = float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None
        metrics[name] = Metric(mean=mean, low=low, high=high, seeds=by_seed, std_over_seeds=spread)
    return metrics


def _paper_queries(outcomes: list[Scored], recipe: EvaluateRecipe, count: int) -> PaperQueries:
    """Return the figures over a fixed sample of queries: the paper reports 128 and does not say which."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(outcomes[0].groups_N))[:count])
    # Each query is a group.
    sample = [
        replace(o, groups_N=np.arange(len(chosen)), values={name: array[chosen] for name, array in o.values.items()})
        for o in outcomes
    ]
    return PaperQueries(queries=len(chosen), metrics=_metrics(sample, recipe))


def _paired_tests(task: Task, scored: dict[tuple[Mode, str], list[Scored]], recipe: EvaluateRecipe) -> list[PairedTest]:
    pairs = [
        (mode, first, second) for (mode, first), (other_mode, second) in combinations(scored, 2) if mode == other_mode
    ]
    tests = []
    for mode, first, second in pairs:
        metric = main_metric(task.type, scored[mode, first][0].figures())
        ours, other = scored[mode, first], scored[mode, second]
        tests.append((metric, *paired_test(ours, other, metric, num_resamples=recipe.num_resamples)))
    # The comparisons of a task answer one question: which encoder is better.
    corrected = holm([p for _, _, p in tests])
    return [
        PairedTest(mode=mode, first=first, second=second, metric=metric, difference=difference, p=p, p_holm=p_holm)
        for (mode, first, second), (metric, difference, p), p_holm in zip(pairs, tests, corrected, strict=True)
    ]


def _errors(
    task: Task, groups: dict[tuple[Mode, int | None, str], list[Finished]], recipe: EvaluateRecipe
) -> dict[Mode, dict[str, ErrorAnalysis]]:
    """Return mode -> encoder -> error analysis of the runs trained on all examples."""
    data = load_task(task, recipe.data)
    analyses: dict[Mode, dict[str, ErrorAnalysis]] = {}
    for (mode, size, encoder), runs in groups.items():
        if size is None:
            outcomes = [run.outcome() for run in runs]
            analyses.setdefault(mode, {})[encoder] = KINDS[task.type].errors(
                data, outcomes, num_resamples=recipe.num_resamples, shown=task.public
            )
    return analyses


def _facts(runs: Sequence[Finished]) -> dict[str, list[str]]:
    """Return what was cut, left out or lost, with the encoder that it is about."""
    facts: dict[str, set[str]] = {}
    for run in runs:
        for name, value in run.report().facts.items():
            facts.setdefault(name, set()).add(f"{run.recipe.encoder.name}: {value}")
    return {name: sorted(values) for name, values in sorted(facts.items())}
