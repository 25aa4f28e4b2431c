"""Small jobs of several kinds on any store, as their users start them, for drills that break a store, a disk or a clock."""

import csv
import io
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from clinical_modernbert.artifacts import Artifact, InputEntry, Store, list_artifacts, open_store
from clinical_modernbert.encoder import build_model, save_model
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.recipe.pretrain import ModelSection
from clinical_modernbert.tokenizer import load_tokenizer, padded_vocabulary_size, special_ids

from benchmarks.kits.tests import helper_of_tests
from benchmarks.kits.training_runs import TWO_WORKERS, is_same_run, same_weights, start_job, start_script, tiny

_NUM_STEPS, _NUM_DOCUMENTS = 20, 400
_RUN_TIMES = ("nlp_date", "nlp_datetime")
_STARTS, _LATE_START = 3, "The current node timed out during startup"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended."""

    status: int
    errors: str

    def problems(self, name: str, *, statuses: tuple[int, ...], error: "re.Pattern[str]") -> list[str]:
        """Return what is wrong with the end of a job that must fail with one of ``statuses`` and one line like ``error``."""
        if self.status not in statuses:
            return [f"{name}: status {self.status}: {self.errors[-500:]}"]
        if not error.search(self.errors) or "Traceback" in self.errors:
            return [f"{name}: the error does not say it in one line: {self.errors[-500:]}"]
        return []


Started = Callable[[Path, Store | str, Mapping[str, str]], "subprocess.Popen[str]"]


@dataclass(frozen=True, slots=True)
class Job:
    """One kind of job: its artifact, how it is started, how two results are compared, and what the store must hold before."""

    kind: str
    start: Started
    """Takes a folder for its files, the store or its address, and variables for its process."""
    compare: Callable[[Artifact, Artifact], bool]
    prepare: Callable[[Store, Path], object] = lambda store, scratch: None

    def run(self, scratch: Path, store: Store | str, environment: Mapping[str, str] | None = None) -> Ended:
        """Run the job to its end; again where Ray did not start within the 30 s that it allows, as on a busy machine."""
        for attempt in range(_STARTS):
            job = self.start(scratch, store, environment or {})
            _, errors = job.communicate(timeout=900)
            if _LATE_START not in errors or attempt == _STARTS - 1:
                break
        return Ended(job.returncode, errors)

    def finished(self, scratch: Path, store: Store) -> Artifact:
        """Run the job and return its artifact; raises ``RuntimeError`` where it fails."""
        end = self.run(scratch, store)
        artifact = self.made(store)
        if end.status or artifact is None:
            raise RuntimeError(f"the job ended with {end.status}: {end.errors[-3000:]}")
        return artifact

    def made_without_faults(self, scratch: Path) -> Artifact:
        """Run the job on a store of its own in a folder below ``scratch``, and return its artifact."""
        quiet = open_store(tempfile.mkdtemp(prefix=f"quiet-{self.kind}-", dir=scratch))
        self.prepare(quiet, scratch)
        return self.finished(scratch, quiet)

    def problems(
        self, end: Ended, store: Store, name: str, *, statuses: tuple[int, ...], error: "re.Pattern[str]"
    ) -> list[str]:
        """Return what is wrong with the end of a job that must fail so (see ``Ended``) and publish nothing."""
        found = end.problems(name, statuses=statuses, error=error)
        return found + ([f"{name}: something was published"] if self.made(store) else [])

    def is_same(self, one: Artifact, expected: Artifact) -> bool:
        """Whether the files of ``one`` in its store are those of its manifest, and what ``expected`` says."""
        return is_whole(one) and self.compare(one, expected)

    def made(self, store: Store) -> Artifact | None:
        """Return what the job has published; None where it has not."""
        # Models that ``prepare`` publishes have no recipe.
        return next((found for found in list_artifacts(store, self.kind) if found.manifest.recipe), None)


def is_whole(artifact: Artifact) -> bool:
    """Whether the files in the store are those of the manifest."""
    try:
        with tempfile.TemporaryDirectory() as cache:
            artifact.folder(cache_path=Path(cache))
    except ArtifactError:
        return False
    return True


def _same_files(one: Artifact, other: Artifact) -> bool:
    return [entry.sha256 for entry in one.manifest.files] == [entry.sha256 for entry in other.manifest.files]


def _same_model(one: Artifact, other: Artifact) -> bool:
    return is_same_run(one, other, num_steps=_NUM_STEPS)


def _start(script: str, values: dict[str, Any]) -> Started:
    def start(scratch: Path, store: Store | str, environment: Mapping[str, str]) -> "subprocess.Popen[str]":
        _write_tables(scratch)
        recipe = scratch / f"{script}.yaml"
        recipe.write_text(yaml.safe_dump(values).replace("SCRATCH", str(scratch)))
        return start_script(script, recipe, store, environment=environment)

    return start


def _write_tables(scratch: Path) -> None:
    (scratch / "pairs.csv").write_text("anchor,positive\n" + "".join(f"fever {n},pyrexia {n}\n" for n in range(500)))
    out = io.StringIO()
    rows = [(n, n, f"seen for {('fever', 'cough')[n % 2]} on day {n}", ("home", "admitted")[n % 2]) for n in range(200)]
    csv.writer(out).writerows([("id", "patient", "text", "label"), *rows])
    (scratch / "notes.csv").write_text(out.getvalue())
    (scratch / "trial.yaml").write_text(str(tiny.TINY_PRETRAIN))  # a mapping of plain values is YAML as it stands


def _start_training(scratch: Path, store: Store | str, environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    return start_job(store, scratch, *TWO_WORKERS, f"training.num_steps={_NUM_STEPS}", environment=environment)


def _publish_corpus(store: Store, scratch: Path) -> None:
    tiny.publish_tiny_corpus(store)


def _publish_model(store: Store, scratch: Path) -> None:
    folder, helper = scratch / "tiny-model", helper_of_tests("served_models")
    if not folder.exists():
        helper.publish_model(folder / "store", folder / "export")
    helper.publish_folder(store.uri, folder / "export")


def _publish_tagger(store: Store, scratch: Path) -> None:
    folder = scratch / "tagger"
    if not folder.exists():
        tiny.save_tiny_classifier(folder / "model", head="token", labels=("O", "B-DRUG", "I-DRUG"))
    helper_of_tests("served_models").publish_folder(store.uri, folder, name="tagger")


def _publish_model_and_pairs(store: Store, scratch: Path) -> None:
    _publish_model(store, scratch)
    helper_of_tests("pairs").publish_tiny_pairs(store, held_out={"fraction": 0.4})


def _publish_two_models(store: Store, scratch: Path) -> None:
    corpus = tiny.publish_tiny_corpus(store)
    tokenizer = load_tokenizer(corpus.folder("tokenizer"))
    origin = InputEntry(name="corpus", id=f"corpus/{corpus.manifest.id}", digest=corpus.manifest.digest)
    for seed, name in enumerate(("one", "two")):
        if not (scratch / name).exists():
            shape, roles = ModelSection.model_validate(tiny.TINY_PRETRAIN["model"]), special_ids(tokenizer)
            size = padded_vocabulary_size(tokenizer)
            model = build_model(shape, vocabulary_size=size, special_ids=roles, seed=seed)
            save_model(model, tokenizer, scratch / name / "model")
        helper_of_tests("served_models").publish_folder(store.uri, scratch / name, name=name, inputs=(origin,))


def _publish_vectors(store: Store, scratch: Path) -> None:
    made = _made_vectors(scratch)
    for item in made.store.walk(made.prefix):
        store.write_bytes(item.key, made.store.read_bytes(item.key))


@cache
def _made_vectors(scratch: Path) -> Artifact:
    return JOBS["vectors"].made_without_faults(scratch)


_CORPUS = {
    "kind": "corpus",
    "name": "drill",
    "sources": [{"type": "synthetic_notes", "name": "notes", "num_documents": _NUM_DOCUMENTS}],
    "tokenizer": {"base": "train", "vocabulary_size": 1024, "num_clinical_tokens": 8, "training_megabytes": 1},
}
_TERMS = {"type": "term_table", "name": "t", "path": "SCRATCH/pairs.csv", "term_column": "anchor"}
_PAIRS = {"kind": "pairs", "name": "drill", "sources": [{**_TERMS, "name_column": "positive"}]}
_VECTORS = {
    "kind": "embed",
    "name": "drill",
    "model": "tiny",
    "input_uri": "SCRATCH/notes.csv",
    "id_column": "id",
    "text_column": "text",
    "part_rows": 32,
    "max_tokens": 32,
    "scaling": {"num_workers": 1},
}
_EVALUATION = {
    "kind": "evaluate",
    "name": "drill",
    "model": "tiny",
    "corpus": None,
    "data": "SCRATCH",
    "tasks": [{"type": "classification", "name": "notes", "train": "notes.csv", "group": "patient"}],
    "modes": ["frozen"],
    "seeds": [0],
    "num_resamples": 100,
    "codes": None,
    "few_shot": [],
    "efficiency": None,
    "scaling": {"num_cpus": 1, "num_runs": 1},
}
_SPANS = {**_VECTORS, "kind": "extract", "model": "tagger"}
_CONTRAST = {**helper_of_tests("pairs").TINY_CONTRAST, "name": "drill", "init": "tiny"}
_MERGE = {
    "kind": "merge",
    "name": "drill",
    "corpus": "tiny",
    "models": [{"source": "one"}, {"source": "two"}],
    "sequence_length": 64,
    "max_rows": 8,
}
_SWEEP = {
    "kind": "sweep",
    "name": "drill",
    "base": "SCRATCH/trial.yaml",
    "corpus": "tiny",
    "space": {"optimizer.learning_rate": {"type": "grid", "values": [1e-5, 3e-3]}},
}
_MAP = {"kind": "map", "name": "drill", "model": "one", "max_codes": 200, "num_iterations": 50}
_PROJECTION = {"kind": "project", "name": "drill", "embeddings": "drill", "num_iterations": 50}


def _same_spans(one: Artifact, other: Artifact) -> bool:
    mine, theirs = ([_without_time(made, entry.path) for entry in made.manifest.files] for made in (one, other))
    return mine == theirs


def _without_time(artifact: Artifact, path: str) -> pa.Table:
    table = pq.read_table(artifact.file(path))
    return table.drop_columns([name for name in _RUN_TIMES if name in table.column_names])


def same_figures(one: Artifact, other: Artifact) -> bool:
    """Whether two reports differ in nothing but the seconds of their runs."""
    return bool(_figures(one.summary) == _figures(other.summary))


def _figures(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _figures(one) for key, one in value.items() if not key.endswith("seconds")}
    return [_figures(one) for one in value] if isinstance(value, list | tuple) else value


JOBS = {
    "pairs": Job("pairs", _start("build_pairs", _PAIRS), _same_files),
    "corpus": Job("corpus", _start("build_corpus", _CORPUS), _same_files),
    "training": Job("model", _start_training, _same_model, _publish_corpus),
    "vectors": Job("embeddings", _start("embed", _VECTORS), _same_files, _publish_model),
    "evaluation": Job("evaluation", _start("evaluate", _EVALUATION), same_figures, _publish_model),
    "spans": Job("spans", _start("extract", _SPANS), _same_spans, _publish_tagger),
    "contrast": Job("model", _start("contrast", _CONTRAST), same_weights, _publish_model_and_pairs),
    "average": Job("model", _start("merge", _MERGE), same_weights, _publish_two_models),
    "sweep": Job("sweep", _start("sweep", _SWEEP), same_figures, _publish_corpus),
    "map": Job("map", _start("map_codes", _MAP), _same_files, _publish_two_models),
    "projection": Job("map", _start("project", _PROJECTION), _same_files, _publish_vectors),
}
"""Every job that publishes an artifact; pairs need no Ray."""
