"""Print the measures of the code that docs/design/house.md compares, as a Markdown table with a column for each checkout.

    python tools/measures.py [CHECKOUT ...]

A walk starts at one function and follows every name that runs through functions, classes and tables of the package. It does not
follow annotations and methods of values that are passed in, and it leaves out all task kinds but one. "Files that name" counts
the code files in which an existing example occurs: a new one touches about as many.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

_PACKAGE = "clinical_modernbert"
_MOST_LINES, _MOST_PARAMETERS = 60, 7
_SHORT_MODULE = 40
# Where a walk starts: a folder of the package, and a function in it.
_WALKS = {
    "one fine-tuning run (`sentence_roles`)": ("evaluation", "run_outcome"),
    "a document, raw record to piece file": ("corpus", "parse_unit"),
    "one training run": ("training", "train_worker"),
}
# Modules of the task kinds that a run of `sentence_roles` does not open, by their names before and after.
_KIND_MODULES = ("entities", "retrieval", "disposition", "annotations", "dense", "ranking", "retrieval_sets", "spans")
_KIND_READERS = ("entity_errors", "ner", "i2b2", "pmc_patients", "ed", "ed_events")
_NAMES = {
    "a task kind (`retrieval`)": r"\bretrieval\b|RetrievalTask|RetrievalSet",
    "a source (`pmc`)": r"PmcSource|import .*\bpmc\b",
    "a route (`/token-classify`)": r"TokenClassify|token[-_]classify",
    "the mask rate": r"mask_rate|rate_start|rate_end|MaskingSection|mask_probabilities|corrupt\(",
}


@dataclass
class Module:
    """A module with its top-level definitions and what its imports mean."""

    path: Path
    tree: ast.Module
    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """Name in this module -> (module, name in it), or (module, None) where the name is a module."""


def main() -> None:
    """Print the table."""
    roots = [Path(name).resolve() for name in sys.argv[1:]] or [Path(__file__).resolve().parents[1]]
    columns = [measures(root) for root in roots]
    sys.stdout.write(f"| measure | {' | '.join(root.name for root in roots)} |\n|---{'|--:' * len(roots)}|\n")
    for name in columns[0]:
        sys.stdout.write(f"| {name} | {' | '.join(column[name] for column in columns)} |\n")


def measures(root: Path) -> dict[str, str]:
    """Return every measure of a checkout by its title."""
    package = _python(root / "platform")
    shown = package + _python(root / "dashboards")
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in package}
    folders = {path.parent: 0 for path in package}
    for path in package:
        folders[path.parent] += path.name != "__init__.py"
    largest = max(folders, key=lambda folder: folders[folder])
    longest = max(lines, key=lambda path: lines[path])
    wide = [path for path in package for function in _functions(path) if _num_parameters(function) > _MOST_PARAMETERS]
    long = [path for path in package for function in _functions(path) if _num_lines(function) > _MOST_LINES]
    modules = _modules(root / "platform")
    return {
        "modules of the package": str(len(package)),
        "lines": f"{sum(lines.values()):,}",
        "lines of the longest module": f"{lines[longest]} ({longest.relative_to(root / 'platform' / _PACKAGE)})",
        f"modules of at most {_SHORT_MODULE} lines, `__init__` apart": str(
            sum(n <= _SHORT_MODULE and path.name != "__init__.py" for path, n in lines.items())
        ),
        "modules in the largest folder": f"{folders[largest]} ({largest.name})",
        "lines with `dict[str, Any]`, dashboards included": str(
            sum("dict[str, Any]" in line for path in shown for line in path.read_text(encoding="utf-8").splitlines())
        ),
        f"functions over {_MOST_LINES} lines": str(len(long)),
        f"functions with more than {_MOST_PARAMETERS} parameters": str(len(wide)),
        **{f"modules that a walk opens: {name}": _walked(modules, *start) for name, start in _WALKS.items()},
        **{f"files that name {name}": str(_num_naming(shown, pattern)) for name, pattern in _NAMES.items()},
    }


@cache
def _python(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


@cache
def _functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _num_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _num_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    named = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    return sum(argument.arg not in ("self", "cls") for argument in named)


def _num_naming(paths: list[Path], pattern: str) -> int:
    return sum(bool(re.search(pattern, path.read_text(encoding="utf-8"))) for path in paths)


def _modules(source_root: Path) -> dict[str, Module]:
    modules = {}
    for path in _python(source_root):
        name = ".".join(path.relative_to(source_root).with_suffix("").parts).removesuffix(".__init__")
        modules[name] = Module(path, ast.parse(path.read_text(encoding="utf-8")))
    for module in modules.values():
        _read_names(module, modules)
    return modules


def _read_names(module: Module, modules: dict[str, Module]) -> None:
    for statement in module.tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            module.definitions[statement.name] = statement
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            module.definitions.update({name.id: statement for name in targets if isinstance(name, ast.Name)})
    # Imports inside functions count too. Those under TYPE_CHECKING are not told apart: they add a name at most.
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_PACKAGE):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                target = (whole, None) if whole in modules else (str(node.module), alias.name)
                module.imports[alias.asname or alias.name] = target


def _walked(modules: dict[str, Module], folder: str, function: str) -> str:
    """Return how many modules a walk from ``function`` in ``folder`` opens, and how many of them are in that folder."""
    inside = {name: module for name, module in modules.items() if name.startswith(f"{_PACKAGE}.{folder}.")}
    for name, module in inside.items():
        if function in module.definitions:
            seen = {(name, function)}
            _follow(modules, name, function, seen)
            opened = {module for module, _ in seen}
            near = sum(module.startswith(f"{_PACKAGE}.{folder}.") for module in opened)
            return f"{len(opened)}, {near} of them in {folder}/"
    return "start not there"


def _follow(modules: dict[str, Module], name: str, start: str, seen: set[tuple[str, str]]) -> None:
    for target in _used(modules, name, start):
        if target not in seen and target[0].rpartition(".")[2] not in _KIND_MODULES + _KIND_READERS:
            seen.add(target)
            _follow(modules, *target, seen)


def _used(modules: dict[str, Module], name: str, start: str) -> Iterator[tuple[str, str]]:
    """Yield the (module, name) that one definition uses."""
    for node in _without_annotations(modules[name].definitions[start]):
        if isinstance(node, ast.Name):
            targets = [_resolved(modules, name, node.id)]
        elif isinstance(node, ast.Attribute):
            targets = [_resolved(modules, owner, node.attr) for owner in _owners(modules, name, node.value)]
        else:
            continue
        yield from filter(None, targets)


def _without_annotations(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all nodes below it but annotations: a reader follows what runs."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _without_annotations(child)


def _owners(modules: dict[str, Module], name: str, value: ast.expr) -> list[str]:
    """Return the modules whose attribute is used: ``value`` is a module, or ``TABLE[key]`` of a table with modules as values."""
    if isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name):
        table = _resolved(modules, name, value.value.id)
        if table is None:
            return []
        names = [node for node in ast.walk(modules[table[0]].definitions[table[1]]) if isinstance(node, ast.Name)]
        return [owner for node in names for owner in _owners(modules, table[0], node)]
    of = modules[name].imports.get(value.id) if isinstance(value, ast.Name) else None
    return [of[0]] if of and of[1] is None else []


def _resolved(modules: dict[str, Module], name: str, used: str) -> tuple[str, str] | None:
    """Return the module and name where ``used`` in module ``name`` is defined, through packages that pass it on."""
    module = modules[name]
    if used in module.definitions:
        return name, used
    of = module.imports.get(used)
    return _resolved(modules, of[0], of[1]) if of and of[1] and of[0] in modules else None


if __name__ == "__main__":
    main()
