"""Compare pinned and installed packages with a folder of advisories: ``make audit DB=<folder>``.

The folder is a copy of a database in OSV's form (https://ossf.github.io/osv-schema/): one advisory a file, ``.json`` or
``.yaml``, at any depth. PyPA's advisory-database is one. Nothing is downloaded, so the answer is as old as the copy; its newest
entry is printed. Compared are the project's pins, also of extras that are not installed, and every package of the environment
that runs this. Not covered: packages that are no Python distributions, such as those of the image's system.

Exits with 1 where an advisory is not allowed below, and with 2 where the folder cannot be read.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions, requires
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ALLOWED = {
    ("pip", "PYSEC-2023-228"): "nothing is installed from Mercurial, and pip is the one that came with Python",
}
"""Package and id of an advisory (or one of its aliases) -> why it does not concern this project."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A package of a version that an advisory names."""

    package: str
    version: str
    ids: tuple[str, ...]
    """The advisory's id, then its aliases."""
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        others = f" ({', '.join(self.ids[1:])})" if len(self.ids) > 1 else ""
        fixed_in = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no fixed version"
        return f"{self.package} {self.version}: {self.ids[0]}{others}, {fixed_in}"


def main(folder: Path) -> int:
    """Print what the advisories say of the packages; return the exit status."""
    try:
        advisories = list(read_advisories(folder))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    packages = versions_in_use()
    findings = sorted(
        (finding for advisory in advisories for finding in matches(advisory, packages)),
        key=lambda f: (f.package, f.ids),
    )
    allowed = {finding: reason for finding in findings if (reason := allowance(finding, ALLOWED))}
    newest = max(str(advisory.get("modified", "")) for advisory in advisories)[:10]
    counts = f"{len(findings)} findings, {len(allowed)} of them allowed"
    sys.stdout.write(f"{len(packages)} packages, {len(advisories)} advisories until {newest}: {counts}\n")
    for finding in findings:
        sys.stdout.write(f"  {finding}{f'; allowed: {allowed[finding]}' if finding in allowed else ''}\n")
    return int(len(allowed) < len(findings))


def versions_in_use() -> dict[str, set[str]]:
    """Return the name of each pinned or installed package -> its versions."""
    found: dict[str, set[str]] = defaultdict(set)
    for one in distributions():
        found[canonicalize_name(one.metadata["Name"])].add(one.version)
    for requirement in map(Requirement, requires("clinical-modernbert") or ()):
        pinned = (specifier.version for specifier in requirement.specifier if specifier.operator == "==")
        found[canonicalize_name(requirement.name)].update(pinned)
    return dict(found)


def read_advisories(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the advisories on Python packages; raises ``ValueError`` for a file that is none, and for a folder without any."""
    number = 0
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".json", ".yaml") or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        if "PyPI" not in text:  # of another language, or no advisory
            continue
        try:
            # safe: this loader makes plain values only
            advisory = json.loads(text) if path.suffix == ".json" else yaml.load(text, yaml.CSafeLoader)
            advisory["id"], advisory["affected"]
        except (ValueError, TypeError, KeyError, yaml.YAMLError):
            raise ValueError(f"{path} is not an advisory in OSV's form, with id and affected") from None
        number += 1
        yield advisory
    if not number:
        raise ValueError(
            f"{folder} has no advisory on a package of PyPI; give the folder of a database in OSV's form as DB="
        )


def matches(advisory: Mapping[str, Any], packages: Mapping[str, Iterable[str]]) -> Iterator[Finding]:
    """Yield the packages that an advisory is about; one that was withdrawn is about none."""
    if advisory.get("withdrawn"):
        return
    ids = (advisory["id"], *advisory.get("aliases", ()))
    by_name: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for affected in advisory["affected"]:
        if affected.get("package", {}).get("ecosystem") == "PyPI":
            by_name[canonicalize_name(affected["package"]["name"])].append(affected)
    for name, entries in by_name.items():
        for version in sorted(packages.get(name, ())):
            if any(is_affected(version, entry) for entry in entries):
                yield Finding(name, version, ids, _fixed_in(entries))


def is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    """Whether an entry of an advisory names a version, in its list or in one of its ranges; a local label (``+cpu``) is left out.

    The events of a range are in the order of versions: ``introduced: 1.0, fixed: 1.2, introduced: 1.5`` are 1.0 and later
    but not 1.2 to 1.5.
    """
    public = Version(Version(version).public)
    if any(_parsed(listed) == public for listed in affected.get("versions", ())):
        return True
    for a_range in affected.get("ranges", ()):
        if a_range["type"] != "ECOSYSTEM":  # commits of a repository
            continue
        events = [(kind, _event(at)) for event in a_range["events"] for kind, at in event.items()]
        within = False
        for kind, at in sorted(events, key=lambda event: event[1]):
            if kind == "introduced":
                within = within or public >= at
            elif kind in ("fixed", "limit"):
                within = within and public < at
            else:  # last_affected
                within = within and public <= at
        if within:
            return True
    return False


def _event(at: str) -> Version:
    return Version("0.dev0" if at == "0" else at)  # "0" is before every version


def _parsed(version: str) -> Version | None:
    try:
        return Version(version)
    except InvalidVersion:  # older than the rules of versions; no package in use has one
        return None


def _fixed_in(entries: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    ranges = [a_range for entry in entries for a_range in entry.get("ranges", ()) if a_range["type"] == "ECOSYSTEM"]
    return tuple(dict.fromkeys(event["fixed"] for a_range in ranges for event in a_range["events"] if "fixed" in event))


def allowance(finding: Finding, allowed: Mapping[tuple[str, str], str]) -> str | None:
    """Return why a finding is allowed, None where it is not."""
    return next((allowed[finding.package, one] for one in finding.ids if (finding.package, one) in allowed), None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compare the packages in use with a folder of advisories.")
    parser.add_argument(
        "folder", type=Path, help="a database in OSV's form, for example a copy of PyPA's advisory-database"
    )
    sys.exit(main(parser.parse_args().folder))
