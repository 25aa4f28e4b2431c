"""Finished runs to one report: figures with intervals over seeds, paired tests, calibration, errors, curves, statistics.

The report is JSON; ``text_report`` writes it as Markdown. It holds counts and figures; examples only of sets marked public.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.heads import load_tokenizer
from clinical_modernbert.evaluation.report.errors.analysis import error_analysis
from clinical_modernbert.evaluation.runs import read_scored
from clinical_modernbert.evaluation.scores import MAIN_METRIC, Scored, calibration, interval, measure, paired_test
from clinical_modernbert.evaluation.tasks.load import load_task
from clinical_modernbert.evaluation.tasks.retrieval_sets import RetrievalSet
from clinical_modernbert.evaluation.tasks.windows import encode_texts
from clinical_modernbert.recipe import EvaluateRecipe, FineTuneRecipe, RunRecipe
from clinical_modernbert.recipe.tasks import RetrievalTask, Task
from clinical_modernbert.statistics import holm


@dataclass(frozen=True, slots=True)
class Finished:
    """A run and what it left."""

    recipe: RunRecipe
    artifact: Artifact

    @property
    def mode(self) -> str:
        """``fine_tuned`` or ``frozen``."""
        return "fine_tuned" if isinstance(self.recipe, FineTuneRecipe) else "frozen"


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
            name: _task_report(task, [r for r in finished if r.recipe.task.name == name], recipe)
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
    whole = load_task(task.model_copy(update={"max_train": None, "max_test": None}), data)
    if isinstance(whole, RetrievalSet):
        texts = [*whole.documents, *whole.queries, *(query for query, _ in whole.train_pairs + whole.development_pairs)]
    else:
        texts = [e.text for part in (whole.train, whole.development, whole.test) for e in part]
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


def _task_report(task: Task, runs: Sequence[Finished], recipe: EvaluateRecipe) -> dict[str, Any]:
    results, scored = [], {}
    for mode, size, encoder in dict.fromkeys((r.mode, r.recipe.num_train, r.recipe.encoder.name) for r in runs):
        group = [r for r in runs if (r.mode, r.recipe.num_train, r.recipe.encoder.name) == (mode, size, encoder)]
        outcomes = [read_scored(r.artifact) for r in group]
        if size is None:
            scored[mode, encoder] = outcomes
        result = {"encoder": encoder, "mode": mode, "num_train": size, **_figures(outcomes, recipe)}
        result["seeds"] = [r.recipe.seed for r in group]
        result["artifacts"] = [f"{r.artifact.manifest.kind}/{r.artifact.manifest.id}" for r in group]
        result["counts"] = group[0].artifact.summary["counts"]
        if "auroc" in result["metrics"] and size is None:
            result["calibration"] = calibration(outcomes, num_resamples=recipe.num_resamples)
        if isinstance(task, RetrievalTask) and size is None:
            result["paper_queries"] = _sampled(outcomes, recipe, task.paper_queries)
        results.append(result)
    report: dict[str, Any] = {"type": task.type, "note": task.note, "results": results}
    report["paired_tests"] = _paired_tests(scored, recipe)
    report["errors"] = error_analysis(task, recipe.data, runs, num_resamples=recipe.num_resamples, shown=task.public)
    report["facts"] = _facts(runs)
    return report


def _figures(outcomes: list[Scored], recipe: EvaluateRecipe) -> dict[str, Any]:
    metrics = {}
    for metric in measure(outcomes[0]):
        mean, low, high = interval(outcomes, metric, num_resamples=recipe.num_resamples)
        by_seed = [measure(outcome)[metric] for outcome in outcomes]
        metrics[metric] = {
            "mean": mean,
            "low": low,
            "high": high,
            "seeds": by_seed,
            "std_over_seeds": float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None,
        }
    return {"metrics": metrics, "main_metric": main_metric(outcomes[0]), "groups": outcomes[0].num_groups}


def main_metric(scored: Scored) -> str:
    """AUROC where there are two classes, else the kind's own."""
    return "auroc" if "auroc" in measure(scored) else MAIN_METRIC[scored.kind]


def _sampled(outcomes: list[Scored], recipe: EvaluateRecipe, count: int) -> dict[str, Any]:
    """Return the figures over a fixed sample of queries: the paper reports 128 and does not say which."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(outcomes[0].groups_N))[:count])
    # Queries are groups of their own.
    part = [
        Scored(o.kind, np.arange(len(chosen)), {name: array[chosen] for name, array in o.values.items()})
        for o in outcomes
    ]
    return {"queries": len(chosen), "metrics": _figures(part, recipe)["metrics"]}


def _paired_tests(scored: dict[tuple[str, str], list[Scored]], recipe: EvaluateRecipe) -> list[dict[str, Any]]:
    tests: list[dict[str, Any]] = []
    for (first, ours), (second, other) in combinations(scored.items(), 2):
        if first[0] != second[0]:
            continue
        metric = main_metric(ours[0])
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


def _facts(runs: Sequence[Finished]) -> dict[str, Any]:
    """Return what was cut, carved or lost, by encoder where it differs."""
    found: dict[str, Counter[str]] = {}
    for run in runs:
        facts = json.loads(run.artifact.file("report.json").read_bytes())["facts"]
        for name, value in facts.items():
            found.setdefault(name, Counter())[f"{run.recipe.encoder.name}: {value}"] += 1
    return {name: sorted(values) for name, values in sorted(found.items())}
