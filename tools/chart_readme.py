"""Write the table of values into the chart's README from the comments of values.yaml; ``--check`` only compares.

The comment ``# -- sentence.`` above a key describes its value. The table lists leaves: scalars, lists and empty maps.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

CHART_PATH = Path(__file__).resolve().parents[1] / "charts" / "clinical-modernbert"
_BEGIN, _END = "<!-- values: begin, written by tools/chart_readme.py -->", "<!-- values: end -->"


def describe_values(text: str) -> dict[str, tuple[str, str | None, bool]]:
    """Return ``dotted key -> (default as JSON, description or None, is a leaf)`` for every key of values.yaml."""
    lines = text.splitlines()
    root = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode), "values.yaml holds a mapping"
    return {key: (default, _comment(lines, line), leaf) for key, default, line, leaf in _walk(root, "")}


def render_readme(readme: str, values: str) -> str:
    """Return ``readme`` with the table between its two marks replaced."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for key, (default, description, leaf) in describe_values(values).items():
        if leaf:
            rows.append(f"| `{key}` | `{default}` | {(description or '').replace('|', '&#124;')} |")
    before, _, rest = readme.partition(_BEGIN)
    _, mark, after = rest.partition(_END)
    if not mark:
        raise SystemExit(f"the README lacks the marks {_BEGIN} and {_END}")
    return "\n".join([before + _BEGIN, *rows, _END]) + after


def _walk(node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, str, int, bool]]:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        leaf = not (isinstance(value, yaml.MappingNode) and value.value)
        default = json.dumps(yaml.safe_load(yaml.serialize(value))) if leaf else ""
        yield name, default, key.start_mark.line, leaf
        if isinstance(value, yaml.MappingNode):
            yield from _walk(value, f"{name}.")


def _comment(lines: list[str], line: int) -> str | None:
    above = lines[line - 1].strip() if line else ""
    return above.removeprefix("# -- ") if above.startswith("# -- ") else None


def main() -> None:
    """Write the README, or with ``--check`` exit with 1 if it is out of date."""
    path = CHART_PATH / "README.md"
    old = path.read_text(encoding="utf-8")
    new = render_readme(old, (CHART_PATH / "values.yaml").read_text(encoding="utf-8"))
    if "--check" in sys.argv[1:]:
        sys.exit(0 if new == old else f"{path} is out of date: run python tools/chart_readme.py")
    path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
