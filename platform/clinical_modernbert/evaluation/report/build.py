"""Finished runs to a report: figures with intervals over seeds, paired tests, calibration, errors and data set statistics.

The report holds counts and figures. Texts are quoted only from data sets marked as public.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.report.calibration import calibration
from clinical_modernbert.evaluation.report.contamination import contamination
from clinical_modernbert.evaluation.report.paired_tests import paired_tests
from clinical_modernbert.evaluation.report.schema import (
    BaselineResult,
    Comparison,
    EncoderFacts,
    ErrorAnalysis,
    FailedRun,
    Metric,
    PaperQueries,
    Result,
    SetStatistics,
    Skipped,
    TaskReport,
)
from clinical_modernbert.evaluation.results import Baseline, Failed, Finished
from clinical_modernbert.evaluation.runs import read_scored
from clinical_modernbert.evaluation.scores import Resampled, Scored, interval, resample
from clinical_modernbert.evaluation.tasks import KINDS, load_task, main_metric
from clinical_modernbert.evaluation.tasks.windows import encode_texts
from clinical_modernbert.recipe import EvaluateRecipe
from clinical_modernbert.recipe.tasks import Mode, Task
from clinical_modernbert.tokenizer import load_tokenizer

_WHOLE = 1 << 30
"""A limit of tokens that no text reaches."""


def compare(
    recipe: EvaluateRecipe,
    finished: Sequence[Finished],
    *,
    failed: Sequence[Failed],
    encoders: Sequence[LocalEncoder],
    own: str | None,
    skipped: Skipped,
    baselines: Mapping[str, Sequence[Baseline]],
) -> Comparison:
    """Return the report's section on tasks; the first encoder's tokenizer counts the tokens of the data sets.

    ``own`` is the encoder that the others are compared with; without one it is the best of each mode.
    """
    recipes = [*(run.recipe for run in finished), *(run.recipe for run in failed)]
    tasks = {of_run.task.name: of_run.task for of_run in recipes}
    measured = {run.recipe.task.name for run in finished}
    return Comparison(
        encoders={e.name: _encoder_facts(e, contamination(e, list(tasks.values()), recipe.data)) for e in encoders},
        skipped=skipped,
        seeds=list(recipe.seeds),
        num_resamples=recipe.num_resamples,
        tuning=recipe.tuning.model_dump(mode="json"),
        statistics={
            name: statistics(task, recipe.data, encoders[0]) for name, task in tasks.items() if name in measured
        },
        tasks={
            name: task_report(
                task,
                [run for run in finished if run.recipe.task.name == name],
                recipe,
                own=own,
                failed=[run for run in failed if run.recipe.task.name == name],
                baselines=baselines.get(name, ()),
            )
            for name, task in tasks.items()
        },
    )


def _encoder_facts(encoder: LocalEncoder, known: dict[str, str]) -> EncoderFacts:
    return EncoderFacts(
        origin=encoder.origin,
        architecture=encoder.architecture,
        max_tokens=encoder.max_tokens,
        pooling=encoder.pooling,
        digest=encoder.digest[:12],
        contamination=known,
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


def task_report(
    task: Task,
    runs: Sequence[Finished],
    recipe: EvaluateRecipe,
    *,
    own: str | None = None,
    failed: Sequence[Failed] = (),
    baselines: Sequence[Baseline] = (),
) -> TaskReport:
    """Return the figures of every encoder, mode and number of training examples, their tests, errors and facts."""
    groups: dict[tuple[Mode, int | None, str], list[Finished]] = {}
    for run in runs:
        groups.setdefault((run.mode, run.recipe.num_train, run.recipe.encoder.name), []).append(run)
    scored = {key: [read_scored(run.artifact) for run in group] for key, group in groups.items()}
    resampled = {key: resample(outcomes, num_resamples=recipe.num_resamples) for key, outcomes in scored.items()}
    trivial = {b.name: resample([b.scored], num_resamples=recipe.num_resamples) for b in baselines}
    full = {(mode, encoder): found for (mode, size, encoder), found in resampled.items() if size is None}
    return TaskReport(
        type=task.type,
        note=task.note,
        results=[_result(task, group, scored[key], resampled[key], recipe) for key, group in groups.items()],
        paired_tests=paired_tests(task, full, own=own, baselines=trivial) if full else [],
        errors=_errors(task, groups, recipe) if groups else None,
        facts=_facts(runs),
        baselines=tuple(
            BaselineResult(name=b.name, method=b.method, metrics=_metrics(trivial[b.name])) for b in baselines
        ),
        failed=tuple(
            FailedRun(
                encoder=run.recipe.encoder.name,
                mode=run.recipe.mode,
                seed=run.recipe.seed,
                num_train=run.recipe.num_train,
                reason=run.reason,
            )
            for run in failed
        ),
    )


def _result(
    task: Task, runs: Sequence[Finished], outcomes: list[Scored], resampled: Resampled, recipe: EvaluateRecipe
) -> Result:
    first = runs[0]
    metrics = _metrics(resampled)
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


def _metrics(resampled: Resampled) -> dict[str, Metric]:
    """Return the metrics that are defined for the reported examples."""
    metrics = {}
    for name in resampled.defined():
        mean, low, high = interval(resampled, name)
        by_seed = resampled.metrics[name].figures_S
        deviation = float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None
        metrics[name] = Metric(mean=mean, low=low, high=high, seeds=by_seed.tolist(), std_over_seeds=deviation)
    return metrics


def _paper_queries(outcomes: list[Scored], recipe: EvaluateRecipe, count: int) -> PaperQueries:
    """Return the figures over a fixed sample of queries: the paper reports 128 and does not say which."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(outcomes[0].groups_N))[:count])
    # Each query is a group.
    sample = [
        replace(o, groups_N=np.arange(len(chosen)), values={name: array[chosen] for name, array in o.values.items()})
        for o in outcomes
    ]
    return PaperQueries(queries=len(chosen), metrics=_metrics(resample(sample, num_resamples=recipe.num_resamples)))


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
        report = run.report()
        rate = (
            {"learning_rate": f"{report.learning_rate:g}"}
            if report.learning_rate and run.recipe.tuning.learning_rates
            else {}
        )
        for name, value in (report.facts | rate).items():
            facts.setdefault(name, set()).add(f"{run.recipe.encoder.name}: {value}")
    return {name: sorted(values) for name, values in sorted(facts.items())}
