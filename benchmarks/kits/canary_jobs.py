"""Jobs of every kind that read synthetic patients, some to their end and some into a refusal."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from clinical_modernbert.artifacts import Store

from benchmarks.kits.canaries import rows, text_of
from benchmarks.kits.training_runs import start_job, start_script, tiny, tiny_plan, wait_for_step, workers_of

_CRASHED = ("name=crashed", "corpus=good", "scaling.max_failures=1", "training.num_steps=200")


@dataclass(frozen=True, slots=True)
class CanaryJob:
    """A job's script and recipe, and the exit status that it must have."""

    script: str
    name: str
    recipe: dict[str, Any]
    status: int

    def run(self, scratch: Path, store: Store) -> tuple[int, str]:
        """Run the job; return its exit status and what it printed."""
        path = scratch / f"{self.script}-{self.name}.yaml"
        path.write_text(yaml.safe_dump(self.recipe))
        job = start_script(self.script, path, store)
        output, errors = job.communicate(timeout=600)
        return job.returncode, output + errors


def jobs(scratch: Path, num_patients: int) -> Iterator[CanaryJob]:
    """Write the input of all jobs, and yield them in the order in which they can run."""
    files = {"good": rows(num_patients, bad=3), "bad": rows(num_patients, bad=num_patients // 2)}
    for name, content in {**files, "headless": rows(num_patients, header=())}.items():
        (scratch / f"{name}.csv").write_text(content)
    (scratch / "labels.csv").write_text(rows(min(num_patients, 200)))
    (scratch / "no-label.csv").write_text(rows(min(num_patients, 200)) + f'1,1,"{text_of(1)}",\n')
    for name, status in (("good", 0), ("bad", 2), ("headless", 2)):
        yield _corpus(scratch, name, status)
        yield _vectors(scratch, name, status)
    for name, status in (("labels", 0), ("no-label", 2)):
        yield _evaluation(scratch, name, status)
    yield from _training(scratch)


def crash(scratch: Path, store: Store) -> tuple[int, str]:
    """Train on the patients, abort the worker once, and return the exit status of the run that continues, and its output."""
    job = start_job(store, scratch, *_CRASHED)
    wait_for_step(tiny_plan(store, *_CRASHED), 2)
    os.kill(workers_of(job)[0].pid, signal.SIGABRT)
    output, errors = job.communicate(timeout=600)
    return job.returncode, output + errors


def _corpus(scratch: Path, name: str, status: int) -> CanaryJob:
    table = {"type": "table", "name": "notes", "path": str(scratch / f"{name}.csv")}
    table |= {"text_column": "text", "id_column": "id"}
    tokenizer = {"base": "train", "vocabulary_size": 512, "num_clinical_tokens": 0, "training_megabytes": 1}
    recipe = {"kind": "corpus", "name": name, "sources": [table], "tokenizer": tokenizer, "dedup": {"near": False}}
    return CanaryJob("build_corpus", name, {**recipe, "packing": {"sequence_lengths": [64]}}, status)


def _vectors(scratch: Path, name: str, status: int) -> CanaryJob:
    recipe = {"kind": "embed", "name": name, "model": "tiny", "input_uri": str(scratch / f"{name}.csv")}
    recipe |= {"id_column": "id", "text_column": "text", "scaling": {"num_workers": 1}, "max_tokens": 32}
    return CanaryJob("embed", name, recipe, status)


def _evaluation(scratch: Path, name: str, status: int) -> CanaryJob:
    task = {"type": "classification", "name": "notes", "train": f"{name}.csv", "group": "patient"}
    recipe = {"kind": "evaluate", "name": name, "model": "tiny", "corpus": None, "data": str(scratch), "tasks": [task]}
    recipe |= {"modes": ["frozen"], "seeds": [0], "num_resamples": 100, "codes": None, "few_shot": []}
    recipe |= {"efficiency": None, "scaling": {"num_cpus": 1, "num_runs": 1}}
    return CanaryJob("evaluate", name, recipe, status)


def _training(scratch: Path) -> Iterator[CanaryJob]:
    """Pretraining, a sweep and contrastive training; a file of patients where a model should be is refused."""
    no_model = str(scratch / "good.csv")
    trained = {**tiny.TINY_PRETRAIN, "name": "trained", "corpus": "good"}
    yield CanaryJob("pretrain", "trained", trained, 0)
    yield CanaryJob("pretrain", "untrained", {**trained, "model": {**trained["model"], "init": no_model}}, 2)

    base = scratch / "pretrain-trained.yaml"
    arms = {"right": [], "broken": [f"model.init={no_model}"]}
    comparison = {"sequence_length": 64, "resamples": 200}
    sweep = {"kind": "sweep", "base": str(base), "corpus": "good", "seeds": [0], "comparison": comparison}
    yield CanaryJob("sweep", "sweep", {**sweep, "name": "sweep", "arms": arms}, 0)
    yield CanaryJob("sweep", "broken", {**sweep, "name": "broken", "arms": {"broken": arms["broken"]}}, 2)

    for name, status in (("good", 0), ("headless", 2)):
        table = {"type": "term_table", "name": "terms", "path": f"{name}.csv", "term_column": "text"}
        table |= {"name_column": "patient", "concept_column": "id"}
        yield CanaryJob(
            "build_pairs", name, {"kind": "pairs", "name": name, "data": str(scratch), "sources": [table]}, status
        )
    contrast = {
        "kind": "contrast",
        "pairs": "good",
        "training": {"num_steps": 8, "batch_pairs": 16, "precision": "float32"},
        "held_out": {"every_steps": 4},
        "checkpoint": {"every_steps": 4},
        "logging": {"every_steps": 1},
        "scaling": {"num_workers": 1, "micro_batch_pairs": 16},
    }
    yield CanaryJob("contrast", "good", {**contrast, "name": "contrast", "init": "trained"}, 0)
    yield CanaryJob("contrast", "bad", {**contrast, "name": "uncontrasted", "init": no_model}, 2)
