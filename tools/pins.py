"""Print pinned requirements by name, read from pyproject.toml, the only place with versions."""

import re
import sys
import tomllib
from pathlib import Path


def pins(names: list[str]) -> list[str]:
    """Return ``name==version`` for each of ``names``; raises KeyError for a name that is not pinned."""
    settings = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    requirements = [*settings["build-system"]["requires"], *project["dependencies"]]
    requirements += [line for extra in project["optional-dependencies"].values() for line in extra]
    found = {}
    for line in requirements:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)(\[.*\])?==([^;]+)", line)
        if match:
            found[match[1]] = f"{match[1]}=={match[3]}"
    return [found[name] for name in names]


if __name__ == "__main__":
    sys.stdout.write(" ".join(pins(sys.argv[1:])) + "\n")
