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
KERNELS = {"packed_sdpa", "torch_varlen", "flash_varlen"}
OURS = {"clinical_modernbert", "benchmarks", "component", "endpoint", "panels", "store", "tools", "views"}
CODE = sorted(
    p for top in ("platform", "dashboards", "jobs", "apps", "benchmarks") for p in (REPOSITORY / top).rglob("*.py")
)
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))
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


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_a_function_fits_on_a_screen(path: Path) -> None:
    """At most 60 lines and 7 parameters; the attention functions take what their libraries take."""
    functions = [
        n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    wide = {
        function.name: (lines, parameters)
        for function in functions
        for lines in [(function.end_lineno or 0) - function.lineno + 1]
        for parameters in [_num_parameters(function)]
        if lines > 60 or (parameters > 7 and function.name not in KERNELS)
    }
    assert not wide


def _num_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = function.args
    return sum(a.arg not in ("self", "cls") for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_a_test_uses_public_names_and_no_other_test(path: Path) -> None:
    """Private names of transformers' configs are allowed: they have no public one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            assert parts[0] != "tests" or parts[1] == "helpers", node.module
            if parts[0] in OURS:
                assert not [name.name for name in node.names if name.name.startswith("_")], node.module
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = ast.unparse(node.value)
            assert owner in ("self", "cls") or node.attr == "_attn_implementation", f"{owner}.{node.attr}"
