"""A new kind of task touches three places: a recipe class, a module, and its line in ``KINDS``.

The proof adds a made-up kind to a copy of the package and evaluates it from its file to the published report.
"""

import filecmp
import inspect
import json
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from clinical_modernbert.evaluation.tasks import KINDS, TaskKind
from clinical_modernbert.recipe import tasks as recipes

MEMBERS = [name for name in vars(TaskKind) if not name.startswith("_")]

# path in the package -> (text, the text that replaces it)
CHANGES = {
    "recipe/tasks.py": [
        (
            "Task = Annotated[\n    ",
            '''class PainTask(_Task):
    """A pain score for each text."""

    type: Literal["pain"]
    path: str
    """Lines of text, tab, score."""


Task = Annotated[
    PainTask
    | ''',
        )
    ],
    "evaluation/tasks/__init__.py": [
        ("import (\n    classification,", "import (\n    pain,\n    classification,"),
        ("KINDS: dict[str, TaskKind] = {", 'KINDS: dict[str, TaskKind] = {\n    "pain": pain,'),
    ],
}
MODULE = """
import numpy as np

from clinical_modernbert.evaluation.report.schema.errors import ErrorAnalysis, LabelPair
from clinical_modernbert.evaluation.results import Baseline, Outcome
from clinical_modernbert.evaluation.scores import Scored
from clinical_modernbert.evaluation.tasks.examples import TextExample, make_splits

TITLE = "pain scores"
PLAIN = "Tell how much pain a text describes."
MAIN_METRICS = ("within_one",)
SHOWN = ("within_one", "exact")
VALUES = ("gold", "predicted")


def paths(task):
    return (task.path,)


def trains(task, mode):
    return mode == "fine_tuned"


def sample_size(task):
    return None


def load(task, folder):
    rows = [line.split("\\t") for line in (folder / task.path).read_text().splitlines()]
    examples = [TextExample(str(n), str(n), text, score) for n, (text, score) in enumerate(rows)]
    return make_splits(examples, None, None, section=task.split, facts={"scale": "0 to 10"})


def run(recipe, encoder, splits):
    gold = np.array([float(example.label) for example in splits.test])
    predicted = np.full(len(gold), np.median([float(example.label) for example in splits.train]))
    scored = Scored(np.arange(len(gold)), {"gold": gold, "predicted": predicted}, measure)
    return Outcome(scored, {"test": len(gold)}, facts={"encoder_not_read": encoder.name})


def measure(values, weights_N):
    distances_N = np.abs(values["gold"] - values["predicted"])
    return {
        "within_one": float(np.average(distances_N <= 1, weights=weights_N)),
        "exact": float(np.average(distances_N == 0, weights=weights_N)),
    }


def baselines(splits):
    gold = np.array([float(example.label) for example in splits.test])
    return [Baseline("zero", "no pain at all", Scored(np.arange(len(gold)), {"gold": gold, "predicted": 0 * gold}, measure))]


def errors(splits, outcomes, *, num_resamples, shown):
    gold, predicted = outcomes[0].arrays["gold"], outcomes[0].arrays["predicted"]
    worst = int(np.abs(gold - predicted).argmax())
    return ErrorAnalysis(label_pairs=[LabelPair(gold=str(gold[worst]), predicted=str(predicted[worst]), examples=1)])
"""
SCRIPT = """
import sys
from pathlib import Path
from clinical_modernbert.artifacts import make_plan, open_store
from clinical_modernbert.evaluation import on_cluster, run as evaluation
from clinical_modernbert.evaluation.fingerprint_inputs import fingerprint_inputs
from clinical_modernbert.evaluation.runs import run
from clinical_modernbert.recipe import EvaluateRecipe, build_recipe

encoders, data, root, package = sys.argv[1:]
assert evaluation.__file__.startswith(package)
# In this process, without Ray.
evaluation.launch = lambda plans: {} if [run(plan) for plan in plans] else {}
on_cluster.on_worker = lambda function, *arguments, scaling: function(*arguments)
values = {
    "kind": "evaluate",
    "name": "new",
    "encoders": [{"name": n, "source": f"{encoders}/{n}"} for n in ("one", "two")],
    "data": data,
    "tasks": [{"name": "triage-pain", "type": "pain", "path": "pain.tsv"}],
    "modes": ["frozen"],
    "seeds": [0, 1],
    "num_resamples": 100,
}
recipe = build_recipe(EvaluateRecipe, values, origin="test")
evaluation.evaluate(make_plan(recipe, open_store(root), raw_inputs=fingerprint_inputs(recipe)))
"""


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_has_every_member_and_a_docstring_for_each_function(name: str) -> None:
    kind = KINDS[name]
    missing = [member for member in MEMBERS if not hasattr(kind, member)]
    assert not missing
    assert [m for m in MEMBERS if inspect.isfunction(getattr(kind, m)) and not getattr(kind, m).__doc__] == []
    assert set(kind.MAIN_METRICS) & set(kind.SHOWN), "the main metric must be in the report's tables"


def test_the_table_has_exactly_the_kinds_of_the_recipes() -> None:
    union, *_ = typing.get_args(recipes.Task)
    types = {typing.get_args(task.model_fields["type"].annotation)[0] for task in typing.get_args(union)}
    assert set(KINDS) == types


def test_the_table_loads_no_torch(repository: Path) -> None:
    """Dry runs and pages read it."""
    code = (
        "import sys, clinical_modernbert.evaluation.tasks, clinical_modernbert.evaluation.fingerprint_inputs; "
        "print(sorted({'torch', 'transformers', 'ray'} & set(sys.modules)))"
    )
    environment = {"PATH": "", "PYTHONPATH": str(repository / "platform")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_a_made_up_kind_runs_from_its_file_to_a_report_and_touches_three_places(
    repository: Path, encoder_folders: dict[str, Path], tmp_path: Path
) -> None:
    original, package = repository / "platform/clinical_modernbert", tmp_path / "platform/clinical_modernbert"
    shutil.copytree(original, package, ignore=shutil.ignore_patterns("__pycache__"))
    for path, replacements in CHANGES.items():
        text = (package / path).read_text()
        for old, new in replacements:
            assert text.count(old) == 1, f"{path} has not one {old!r}"
            text = text.replace(old, new)
        (package / path).write_text(text)
    (package / "evaluation/tasks/pain.py").write_text(MODULE)
    touched = _differences(filecmp.dircmp(original, package, ignore=["__pycache__"]))
    assert len(touched) == 3, touched

    data, store = tmp_path / "data", tmp_path / "store"
    data.mkdir()
    (data / "pain.tsv").write_text("\n".join(f"pain of {n % 4} after surgery\t{n % 4}" for n in range(60)))
    for name, architecture in (("one", "modernbert"), ("two", "bert")):
        shutil.copytree(encoder_folders[architecture], tmp_path / "encoders" / name)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "encoders"), str(data), str(store), str(package)],
        env={"PATH": "", "PYTHONPATH": str(package.parent), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder,) = (store / "evaluation").glob("new-*")
    report = json.loads((folder / "report.json").read_text())
    task = report["tasks"]["triage-pain"]
    assert task["type"] == "pain" and task["facts"]["scale"] and report["statistics"]["triage-pain"]["samples"] == 60
    for result in task["results"]:
        # Frozen runs of this kind learn nothing: one of the two seeds is enough.
        assert result["main_metric"] == "within_one" and result["seeds"] == [0]
        assert 0 < result["metrics"]["exact"]["mean"] < result["metrics"]["within_one"]["mean"] < 1
    assert len(task["errors"]["frozen"]["one"]["label_pairs"]) == 1
    between, *against = [(test["first"], test["second"], test["difference"]) for test in task["paired_tests"]]
    assert between == ("one", "two", 0) and [pair[:2] for pair in against] == [("one", "zero"), ("two", "zero")]
    assert [baseline["name"] for baseline in task["baselines"]] == ["zero"]
    text = (folder / "report.md").read_text()
    assert "| zero | baseline |" in text
    assert "Further sets: pain scores" in text and "triage-pain within_one" in text and "triage-pain exact" in text


def _differences(comparison: filecmp.dircmp[str]) -> list[str]:
    own = [*comparison.diff_files, *comparison.left_only, *comparison.right_only]
    return own + [path for sub in comparison.subdirs.values() for path in _differences(sub)]
