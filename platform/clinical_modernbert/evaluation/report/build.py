"""Finished runs to one report: figures with intervals over seeds, paired tests, calibration, errors, curves, statistics.

The report is JSON; ``text_report`` writes it as Markdown. It holds counts and figures; examples only of sets marked public.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.results import Finished
from clinical_modernbert.evaluation.runs import read_scored
from clinical_modernbert.evaluation.scores import Scored, calibration, interval, paired_test
from clinical_modernbert.evaluation.tasks import KINDS, load_task, main_metric
from clinical_modernbert.evaluation.tasks.windows import encode_texts
from clinical_modernbert.recipe import EvaluateRecipe
from clinical_modernbert.recipe.tasks import Task
from clinical_modernbert.statistics import holm
from clinical_modernbert.tokenizer import load_tokenizer


def build_report(
    recipe: EvaluateRecipe,
    finished: Sequence[Finished],
    *,
    encoders: Sequence[LocalEncoder],
    skipped: dict[str, dict[str, str]],
    measured: dict[str, Any],
) -> dict[str, Any]:
    """Return the report; ``measured`` are its parts on encoders beside tasks."""
    tasks = {run.recipe.task.name: run.recipe.task for run in finished}
    return {
        "encoders": {encoder.name: _encoder_facts(encoder) for encoder in encoders},
        "skipped": skipped,
        "seeds": list(recipe.seeds),
        "num_resamples": recipe.num_resamples,
        "tuning": recipe.tuning.model_dump(mode="json"),
        "statistics": {name: statistics(task, recipe.data, encoders[0]) for name, task in tasks.items()},
        "tasks": {
            name: task_report(task, [r for r in finished if r.recipe.task.name == name], recipe)
            for name, task in tasks.items()
        },
        **measured,
    }


def _encoder_facts(encoder: LocalEncoder) -> dict[str, Any]:
    return {
        "origin": encoder.origin,
        "architecture": encoder.architecture,
        "max_tokens": encoder.max_tokens,
        "pooling": encoder.pooling,
        "digest": encoder.digest[:12],
    }


def statistics(task: Task, data: str, encoder: LocalEncoder) -> dict[str, Any]:
    """Return Table 3's columns for a whole data set: samples, mean and longest length in words and in the encoder's tokens."""
    texts = load_task(task.model_copy(update={"max_train": None, "max_test": None}), data).texts()
    words = [len(text.split()) for text in texts]
    tokens = [len(ids) for ids in encode_texts(load_tokenizer(encoder.folder), texts, max_tokens=1 << 30)[0]]
    return {
        "samples": len(texts),
        "mean_words": float(np.mean(words)),
        "most_words": max(words),
        "mean_tokens": float(np.mean(tokens)),
        "most_tokens": max(tokens),
        "tokens_of": encoder.name,
    }


def task_report(task: Task, runs: Sequence[Finished], recipe: EvaluateRecipe) -> dict[str, Any]:
    """Return the figures of every encoder, mode and number of training examples, their tests, errors and facts."""
    results, scored = [], {}
    sample_size = KINDS[task.type].sample_size(task)
    for mode, size, encoder in dict.fromkeys((r.mode, r.recipe.num_train, r.recipe.encoder.name) for r in runs):
        group = [r for r in runs if (r.mode, r.recipe.num_train, r.recipe.encoder.name) == (mode, size, encoder)]
        outcomes = [read_scored(r.artifact) for r in group]
        if size is None:
            scored[mode, encoder] = outcomes
        result = {"encoder": encoder, "mode": mode, "num_train": size, **_figures(task, outcomes, recipe)}
        result["seeds"] = [r.recipe.seed for r in group]
        result["artifacts"] = [f"{r.artifact.manifest.kind}/{r.artifact.manifest.id}" for r in group]
        result["counts"] = group[0].artifact.summary["counts"]
        if "auroc" in result["metrics"] and size is None:
            result["calibration"] = calibration(outcomes, num_resamples=recipe.num_resamples)
        if sample_size is not None and size is None:
            result["paper_queries"] = _sampled(task, outcomes, recipe, sample_size)
        results.append(result)
    report: dict[str, Any] = {"type": task.type, "note": task.note, "results": results}
    report["paired_tests"] = _paired_tests(task, scored, recipe)
    report["errors"] = _errors(task, runs, recipe)
    report["facts"] = _facts(runs)
    return report


def _figures(task: Task, outcomes: list[Scored], recipe: EvaluateRecipe) -> dict[str, Any]:
    metrics = {}
    for metric in outcomes[0].figures():
        mean, low, high = interval(outcomes, metric, num_resamples=recipe.num_resamples)
        by_seed = [outcome.figures()[metric] for outcome in outcomes]
        metrics[metric] = {
            "mean": mean,
            "low": low,
            "high": high,
            "seeds": by_seed,
            "std_over_seeds": float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None,
        }
    return {"metrics": metrics, "main_metric": main_metric(task.type, metrics), "groups": outcomes[0].num_groups}


def _sampled(task: Task, outcomes: list[Scored], recipe: EvaluateRecipe, count: int) -> dict[str, Any]:
    """Return the figures over a fixed sample of queries: the paper reports 128 and does not say which."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(outcomes[0].groups_N))[:count])
    # Queries are groups of their own.
    part = [
        replace(o, groups_N=np.arange(len(chosen)), values={name: array[chosen] for name, array in o.values.items()})
        for o in outcomes
    ]
    return {"queries": len(chosen), "metrics": _figures(task, part, recipe)["metrics"]}


def _paired_tests(
    task: Task, scored: dict[tuple[str, str], list[Scored]], recipe: EvaluateRecipe
) -> list[dict[str, Any]]:
    tests: list[dict[str, Any]] = []
    for (first, ours), (second, other) in combinations(scored.items(), 2):
        if first[0] != second[0]:
            continue
        metric = main_metric(task.type, ours[0].figures())
        difference, p = paired_test(ours, other, metric, num_resamples=recipe.num_resamples)
        tests.append(
            {
                "mode": first[0],
                "first": first[1],
                "second": second[1],
                "metric": metric,
                "difference": difference,
                "p": p,
            }
        )
    # The comparisons of a task answer one question: which encoder is better.
    corrected = holm([test["p"] for test in tests])
    return [{**test, "p_holm": p} for test, p in zip(tests, corrected, strict=True)]


def _errors(task: Task, runs: Sequence[Finished], recipe: EvaluateRecipe) -> dict[str, Any]:
    """Return mode -> encoder -> error analysis of the runs trained on all examples."""
    data = load_task(task, recipe.data)
    by_encoder: dict[tuple[str, str], list[Finished]] = {}
    for run in runs:
        if run.recipe.num_train is None:
            by_encoder.setdefault((run.mode, run.recipe.encoder.name), []).append(run)
    analyses: dict[str, Any] = {}
    for (mode, encoder), seeds in by_encoder.items():
        analyses.setdefault(mode, {})[encoder] = KINDS[task.type].errors(
            data, [run.outcome() for run in seeds], num_resamples=recipe.num_resamples, shown=task.public
        )
    return analyses


def _facts(runs: Sequence[Finished]) -> dict[str, Any]:
    """Return what was cut, carved or lost, by encoder where it differs."""
    found: dict[str, Counter[str]] = {}
    for run in runs:
        for name, value in run.report()["facts"].items():
            found.setdefault(name, Counter())[f"{run.recipe.encoder.name}: {value}"] += 1
    return {name: sorted(values) for name, values in sorted(found.items())}
