"""The diffs of CONTRIBUTING work as they are printed, and touch as few files as their headings say."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.printed_diffs import apply_diff, printed_diffs

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
USE = """
import asyncio, sys
from pathlib import Path
from types import SimpleNamespace

from clinical_modernbert import sources
from clinical_modernbert.evaluation import tasks
from clinical_modernbert.recipe.sources import LetterSource
from clinical_modernbert.recipe.tasks import TriageTask
from clinical_modernbert.serving import api
from clinical_modernbert.serving.routes import count

folder = Path(sys.argv[1])
kind = tasks.KINDS["triage"]
# mypy takes the module for a TaskKind only if `__all__` lists every name.
assert sorted(kind.__all__) == sorted(name for name in vars(tasks.TaskKind) if not name.startswith("_"))
task = TriageTask(name="triage", type="triage", path="triage.jsonl")
splits = tasks.load_task(task, str(folder))
assert sum(map(len, splits.parts().values())) == 40 and kind.paths(task) == ("triage.jsonl",)

letters = LetterSource(name="letters", type="letters", path=str(folder))
(unit,) = sources.list_units(letters)
(document,) = sources.read_unit(letters, unit)
assert (document.text, sources.licence_of(letters)) == ("chest pain", None)

(route,) = [route for route in api.ROUTES if route.path == "/count"]
assert (route.fields, route.examples) == (("inputs",), count.EXAMPLES)
async def ids(texts): return [[0] * len(text) for text in texts]
service = SimpleNamespace(check_texts=lambda inputs, field: [inputs], tokenize=ids)
assert asyncio.run(count.count(service, count.CountRequest(inputs="abc"))) == [3]
"""


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(cwd / "platform")}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_printed_diffs_touch_as_few_files_as_their_headings_say() -> None:
    assert [len(diff) for diff in printed_diffs(PAGE)] == [2, 3, 3]


def test_a_diff_whose_place_is_absent_fails(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    with pytest.raises(AssertionError, match="is not there once"):
        apply_diff(tmp_path, {"a.py": [" y = 1", "+z = 2"]})


def test_the_printed_diffs_pass_the_linter_and_do_what_the_page_says(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "platform" / "clinical_modernbert",
        tmp_path / "platform" / "clinical_modernbert",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for diff in printed_diffs(PAGE):
        apply_diff(tmp_path, diff)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "letter.txt").write_text("chest pain")
    rows = (f'{{"patient": "{n}", "text": "text {n}", "level": "{n % 2}"}}\n' for n in range(40))
    (tmp_path / "data" / "triage.jsonl").write_text("".join(rows))

    for command in (["check", "--no-cache", "."], ["format", "--no-cache", "--check", "."]):
        checked = python("-m", "ruff", *command, cwd=tmp_path)
        assert checked.returncode == 0, checked.stdout
    used = python("-c", USE, str(tmp_path / "data"), cwd=tmp_path)
    assert used.returncode == 0, used.stderr
