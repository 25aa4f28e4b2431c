"""The house keeps its shape."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from clinical_modernbert.recipe import RECIPE_TYPES, load_recipe, read_recipe

REPOSITORY = Path(__file__).resolve().parents[1]
RECIPES = REPOSITORY / "jobs" / "recipes"
RECIPE_NAMES = sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml"))
JOBS = sorted((REPOSITORY / "jobs").glob("*.py"))
PACKAGE = sorted((REPOSITORY / "platform" / "clinical_modernbert").rglob("*.py"))


def test_platform_holds_packages_and_nothing_that_shadows_the_standard_library() -> None:
    assert not list((REPOSITORY / "platform").glob("*.py"))
    assert not list((REPOSITORY / "platform").glob("*.so"))


def test_import_platform_is_the_standard_librarys() -> None:
    """Run from the root, where `platform/` lies on the path before the standard library does."""
    code = (
        "import platform, sysconfig; print(platform.__file__); print(sysconfig.get_path('stdlib')); platform.system()"
    )
    found, stdlib = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert found == f"{stdlib}/platform.py"


def test_there_are_recipes_of_every_kind() -> None:
    assert {name.partition("/")[0] for name in RECIPE_NAMES} == set(RECIPE_TYPES)


@pytest.mark.parametrize("name", RECIPE_NAMES)
def test_every_recipe_validates_in_the_folder_of_its_kind(name: str) -> None:
    kind = read_recipe(name, recipes_path=RECIPES)["kind"]
    assert name.startswith(f"{kind}/")
    load_recipe(RECIPE_TYPES[kind], name, recipes_path=RECIPES)


def test_there_are_jobs() -> None:
    assert {path.stem for path in JOBS} >= {"build_corpus", "pretrain", "sweep", "evaluate", "map_codes"}


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_a_job_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 40


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_the_package_imports_nothing_that_is_built_on_it(path: Path) -> None:
    tops = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            tops |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            tops.add(node.module.partition(".")[0])
    assert not tops & {"jobs", "apps", "dashboards", "tests", "benchmarks"}
