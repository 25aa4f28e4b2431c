"""The documentation is complete, and what it links to and names exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlparse

import pytest
import yaml
from clinical_modernbert import errors
from clinical_modernbert.artifacts.layout import ARTIFACT_KIND_OF_RECIPE, FORMAT_VERSION
from clinical_modernbert.recipe import RECIPE_TYPES, build_recipe
from clinical_modernbert.recipe.evaluate import EvaluateRecipe
from clinical_modernbert.recipe.sources import CodeTable, CodeTemplate, Source
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "platform" / "clinical_modernbert"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("charts/*/README.md")])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
GUIDES = "\n".join(page.read_text(encoding="utf-8") for page in sorted(ROOT.glob("docs/*.md")))
JOBS = sorted(path.stem for path in ROOT.glob("jobs/*.py"))
RECIPES = sorted(
    path.relative_to(ROOT / "jobs/recipes").with_suffix("").as_posix() for path in ROOT.glob("jobs/recipes/*/*.yaml")
)

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_IN_BACKTICKS = re.compile(r"`([^`\s]+)`")
_TOP = ("platform", "docs", "jobs", "apps", "dashboards", "charts", "tests", "benchmarks", "tools")
_CHART = ROOT / "charts" / "clinical-modernbert"


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"\s", "-", heading) for heading in plain}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield every model in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _types(annotation: Any) -> set[str]:
    """Return the values of ``type`` of every model in an annotation."""
    fields = [model.model_fields["type"] for model in _models(annotation) if "type" in model.model_fields]
    return {value for field in fields for value in get_args(field.annotation)}


def _first_cells(text: str, heading: str) -> list[str]:
    """Return the first column of the first table after a heading, without backticks."""
    lines = text[text.index(heading) :].splitlines()
    rows = [line for line in lines if line.startswith("|")]
    start = lines.index(rows[0])
    table = [
        line for n, line in enumerate(lines[start:]) if all(x.startswith("|") for x in lines[start : start + n + 1])
    ]
    return [line.split("|")[1].strip().strip("`") for line in table[2:]]


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    targets = [link for link in _LINK.findall(page.read_text(encoding="utf-8")) if not urlparse(link).scheme]
    broken = []
    for target in targets:
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(target)

    assert broken == []


@pytest.mark.parametrize("name", NAMES)
def test_every_path_that_a_page_names_exists(name: str) -> None:
    words = [word.rstrip(".,:;") for word in _IN_BACKTICKS.findall(_FENCE.sub("", _text(name)))]
    roots = [ROOT, PACKAGE, _CHART]
    in_repository = re.compile(rf"(?:{'|'.join(_TOP)})/[\w./*-]*")
    in_package = re.compile(r"[\w/]+\.py")
    missing = [
        word
        for word in words
        if (in_repository.fullmatch(word) or in_package.fullmatch(word))
        and not any(any(root.glob(word)) for root in roots)
    ]

    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_that_a_page_names_exists(name: str) -> None:
    kinds = "|".join(RECIPE_TYPES)
    named = re.findall(rf"`((?:{kinds})/[a-z0-9_-]+)`|\.py ((?:{kinds})/[a-z0-9_-]+)", _text(name))

    assert {a or b for a, b in named} - {*RECIPES} == set()


def test_every_job_is_in_the_tables_of_the_readme_and_the_architecture() -> None:
    assert len(JOBS) == 20
    assert sorted(_first_cells(_text("README.md"), "## Researchers")) == JOBS
    assert sorted(_first_cells(_text("docs/architecture.md"), "## Jobs")) == JOBS


def test_every_function_that_the_architecture_names_exists() -> None:
    names = re.findall(r"^\|.*?\|.*?\| `([a-z_.]+)` \|", _text("docs/architecture.md"), re.MULTILINE)
    assert len(names) == len(JOBS)
    missing = []
    for name in names:
        module, _, function = name.rpartition(".")
        file = PACKAGE / f"{module.replace('.', '/')}.py"
        if not (PACKAGE / f"{name.replace('.', '/')}.py").exists() and not (
            file.exists() and re.search(rf"^def {function}\(", file.read_text(encoding="utf-8"), re.MULTILINE)
        ):
            missing.append(name)

    assert missing == []


def test_every_recipe_kind_that_a_job_runs_is_in_the_architecture() -> None:
    table = _text("docs/architecture.md")
    kinds = {path.partition("/")[0] for path in RECIPES}

    assert {kind for kind in kinds if f"`{kind}`" not in table} == set()
    assert kinds <= {*RECIPE_TYPES}


def test_every_recipe_is_described_in_a_guide() -> None:
    assert len(RECIPES) > 30
    assert [recipe for recipe in RECIPES if f"{recipe}`" not in GUIDES and f"{recipe} " not in GUIDES] == []


def test_every_type_of_source_is_described() -> None:
    types = _types(Source)
    assert len(types) > 8
    cells = _first_cells(_text("docs/sources.md"), "# Sources")
    assert {type_ for cell in cells for type_ in re.findall(r"\w+", cell)} == types


def test_every_kind_of_task_is_described() -> None:
    kinds = _types(EvaluateRecipe.model_fields["tasks"].annotation)
    assert len(kinds) > 3
    assert set(_first_cells(_text("docs/evaluation.md"), "## Tasks")) == kinds


def test_the_recipe_of_own_tasks_has_every_field_right() -> None:
    (block,) = re.findall(r"```yaml\n(# own.yaml.*?)```", _text("docs/evaluation.md"), re.DOTALL)
    recipe = build_recipe(EvaluateRecipe, {"kind": "evaluate", "name": "own", **yaml.safe_load(block)}, origin="docs")
    assert len(block.splitlines()) <= 33 and len(recipe.tasks) == 11


def test_every_code_table_sentence_form_and_file_format_is_described() -> None:
    sources, evaluation = _text("docs/sources.md"), _text("docs/evaluation.md")
    formats = [
        name
        for task in _models(EvaluateRecipe.model_fields["tasks"].annotation)
        if "format" in task.model_fields
        for name in get_args(task.model_fields["format"].annotation)
    ]
    assert {"i2b2_2014", "mimic_ed", "beir"} <= set(formats)

    assert [name for name in (*get_args(CodeTable), *get_args(CodeTemplate)) if f"`{name}`" not in sources] == []
    assert [name for name in formats if f"`{name}`" not in evaluation] == []


def test_changelog_has_the_format_version_of_every_kind() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", _text("CHANGELOG.md"), re.MULTILINE)

    assert {kind: int(version) for kind, version in rows} == FORMAT_VERSION


def test_every_kind_of_artifact_has_a_job_that_makes_it() -> None:
    table = _text("docs/architecture.md")

    assert {kind for kind in ARTIFACT_KIND_OF_RECIPE.values() if f"`{kind}`" not in table} == set()
    assert {*FORMAT_VERSION} == {*ARTIFACT_KIND_OF_RECIPE.values()}


def test_every_page_is_in_the_index() -> None:
    index = _text("docs/README.md")
    pages = [
        page.relative_to(ROOT / "docs").as_posix() for page in ROOT.glob("docs/**/*.md") if page.name != "README.md"
    ]

    assert [page for page in pages if f"({page})" not in index] == []


def test_the_tree_of_errors_is_complete() -> None:
    lines = (errors.__doc__ or "").splitlines()
    drawn = {match[2]: len(match[1]) for line in lines if (match := re.match(r"    ([│├└─ ]*)(\w+)(?: {2,}|$)", line))}
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    bases = {error.__name__: error.__bases__[0].__name__ for error in classes}

    assert bases.keys() == drawn.keys() - {"Exception"}
    assert all(drawn[name] == drawn[base] + 4 for name, base in bases.items())
