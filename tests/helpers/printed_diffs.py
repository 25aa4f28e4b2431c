"""Apply the diffs that a page of the documentation prints."""

import re
from collections.abc import Iterator
from pathlib import Path

_BLOCK = re.compile(r"^```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r" # (\S+)")


def printed_diffs(page: Path) -> list[dict[str, list[str]]]:
    """Return each diff of the page as ``file -> lines``. A line `` # path`` starts a file."""
    diffs: list[dict[str, list[str]]] = []
    for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        files: dict[str, list[str]] = {}
        lines: list[str] = []
        for line in block.splitlines():
            if start := _FILE.fullmatch(line):
                lines = files.setdefault(start[1], [])
            else:
                lines.append(line)
        diffs.append(files)
    return diffs


def apply_diff(root: Path, diff: dict[str, list[str]]) -> None:
    """Change the files below ``root``; fails if a place is absent or not unique. A file of added lines only must be new."""
    for name, lines in diff.items():
        file = root / name
        assert file.exists() == any(line[:1] != "+" for line in lines), name
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        for place in _places(lines):
            before = "".join(f"{line[1:]}\n" for line in place if line[:1] in " -")
            after = "".join(f"{line[1:]}\n" for line in place if line[:1] in " +")
            assert not before or text.count(before) == 1, f"{name}: {before!r} is not there once"
            text = text.replace(before, after) if before else after
        file.write_text(text, encoding="utf-8")


def _places(lines: list[str]) -> Iterator[list[str]]:
    place: list[str] = []
    for line in [*lines, "@@"]:
        if line == "@@":
            yield place
            place = []
        else:
            place.append(line)
