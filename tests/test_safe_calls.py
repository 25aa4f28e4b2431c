"""No code of the project runs what it reads: the calls that could are refused, except on lines that give their reason."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = ("platform", "dashboards", "jobs", "apps", "benchmarks", "tools")
CODE = sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))
# A comment that begins so, on the line of the call or in the lines of comment above it, allows one call and says why.
REASON = "# safe: "

RUNS_CODE = {
    "eval", "exec", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell", "pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load",
    "cloudpickle.loads", "ray.cloudpickle.load", "ray.cloudpickle.loads", "dill.load", "dill.loads", "joblib.load",
    "marshal.load", "marshal.loads", "shelve.open", "pandas.read_pickle", "yaml.load", "yaml.unsafe_load",
    "yaml.full_load", "torch.load", "torch.jit.load",
}  # fmt: skip
RUNS_CODE_METHODS = {"load_checkpoint"}  # DeepSpeed unpickles
ARGUMENTS = {"shell": True, "trust_remote_code": True, "allow_pickle": True, "weights_only": False}


def imported(tree: ast.AST) -> dict[str, str]:
    """Return the full name of each name that a file imports under another one."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {one.asname: one.name for one in node.names if one.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return names


def name_of(node: ast.expr, names: Mapping[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def unsafe_calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of every call that may run code from its input; a function that is handed on counts as called."""
    names = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            name = name_of(node, names)
            if name in RUNS_CODE or name.rpartition(".")[2] in RUNS_CODE_METHODS:
                yield node.lineno, name
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node.func, names)
        for keyword in node.keywords:
            if keyword.arg in ARGUMENTS and not (
                isinstance(keyword.value, ast.Constant) and bool(keyword.value.value) is not ARGUMENTS[keyword.arg]
            ):
                yield node.lineno, f"{name}({keyword.arg}=...)"


def has_reason(lines: list[str], number: int) -> bool:
    """Whether line ``number`` (from 1) or the comment above it gives a reason."""
    above = number - 2
    while above >= 0 and lines[above].lstrip().startswith("#"):
        if lines[above].lstrip().startswith(REASON):
            return True
        above -= 1
    return REASON in lines[number - 1]


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_a_call_that_may_run_its_input_gives_its_reason(path: Path) -> None:
    text = path.read_text()
    lines = text.splitlines()
    found = [
        f"line {number}: {name}" for number, name in unsafe_calls(ast.parse(text)) if not has_reason(lines, number)
    ]
    assert found == [], f"write '{REASON}<why>' above the call if it can't be avoided"


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)", "pickle.loads(data)", "torch.load(path, weights_only=True)", "subprocess.run(line, shell=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=flag)", "np.load(path, allow_pickle=True)",
        "class Reader(pickle.Unpickler): pass", "engine.load_checkpoint(folder)", "yaml.load(text, Loader=Loader)",
        "from torch import load; load(path)", "import torch as t; t.load(path)", "run(line, shell=1)",
        "from pickle import Unpickler as U; U(file)", "from asyncio import *; asyncio.create_subprocess_shell(line)",
        "json.loads(text, object_hook=eval)", "map(pickle.loads, parts)",
    ],
)  # fmt: skip
def test_each_kind_is_found_and_a_reason_allows_it(line: str) -> None:
    assert [number for number, _ in unsafe_calls(ast.parse(line))] == [1]
    assert not has_reason([line], 1)
    assert has_reason(["# safe: this test", "# and more", line], 3)


@pytest.mark.parametrize(
    "line",
    ["model.eval()", "np.load(path, allow_pickle=False)", "yaml.safe_load(text)", "from json import load; load(file)"],
)
def test_what_runs_nothing_is_not_named(line: str) -> None:
    assert not list(unsafe_calls(ast.parse(line)))
