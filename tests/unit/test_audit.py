"""Advisories in OSV's form against versions, and what needs a reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from tools import audit

ID, ALIAS = "PYSEC-2026-1", "CVE-2026-2"
EVENTS = ({"introduced": "0"}, {"fixed": "1.2"}, {"introduced": "1.5"}, {"last_affected": "1.6"})


def advisory(
    *events: dict[str, str], versions: tuple[str, ...] = (), name: str = "Ray", **fields: Any
) -> dict[str, Any]:
    ranges = [{"type": "GIT", "events": [{"introduced": "0"}]}, {"type": "ECOSYSTEM", "events": list(events)}]
    affected = {"package": {"ecosystem": "PyPI", "name": name}, "ranges": ranges, "versions": list(versions)}
    return {"id": ID, "aliases": [ALIAS], "modified": "2026-11-01T00:00:00Z", "affected": [affected], **fields}


def found(version: str, *events: dict[str, str], **fields: Any) -> list[audit.Finding]:
    return list(audit.matches(advisory(*events, **fields), {"ray": {version}}))


@pytest.mark.parametrize("version", ["0.1a1", "1.1", "1.5", "1.6+cpu"])
def test_a_version_from_introduced_to_before_fixed_is_affected(version: str) -> None:
    assert found(version, *EVENTS)


@pytest.mark.parametrize("version", ["1.2", "1.4", "1.5rc1", "1.10"])
def test_a_version_outside_of_the_ranges_is_not(version: str) -> None:
    assert not found(version, *EVENTS)


def test_a_listed_version_is_affected_also_with_a_local_label_and_odd_versions_are_passed_over() -> None:
    assert found("2.13.0+cpu", versions=("2004d", "2.13"))
    assert not found("2.14", versions=("2004d", "2.13"))


def test_withdrawn_advisories_other_packages_and_other_languages_concern_nothing() -> None:
    everything = {"introduced": "0"}
    assert not found("1.0", everything, withdrawn="2026-01-01T00:00:00Z")
    assert not found("1.0", everything, name="raylib")
    other = advisory(everything)
    other["affected"][0]["package"]["ecosystem"] = "npm"
    assert not list(audit.matches(other, {"ray": {"1.0"}}))


def test_the_line_names_package_version_ids_and_fix() -> None:
    (finding,) = found("1.0", {"introduced": "0"}, {"fixed": "1.2"})
    assert str(finding) == f"ray 1.0: {ID} ({ALIAS}), fixed in 1.2"
    assert str(found("1.0", {"introduced": "0"})[0]).endswith("no fixed version")
    assert audit.allowance(finding, {("ray", ALIAS): "not reachable"}) == "not reachable"
    assert audit.allowance(finding, {("torch", ID): "another package"}) is None


def test_the_packages_in_use_are_those_installed_and_every_pin_of_every_extra() -> None:
    packages = audit.versions_in_use()
    assert packages["numpy"] and packages["mlflow-skinny"] and packages["flash-attn"]
    assert "clinical-modernbert" in packages


def test_a_finding_ends_with_1_a_reason_with_0_and_no_advisories_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "versions_in_use", lambda: {"ray": {"1.0"}})
    assert audit.main(tmp_path) == 2
    assert "has no advisory" in capsys.readouterr().err
    (tmp_path / "npm.json").write_text('{"id": "GHSA-1"}')
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / f"{ID}.yaml").write_text(json.dumps(advisory({"introduced": "0"})))  # JSON is YAML
    assert audit.main(tmp_path) == 1
    assert capsys.readouterr().out == (
        "1 packages, 1 advisories until 2026-11-01: 1 findings, 0 of them allowed\n"
        f"  ray 1.0: {ID} ({ALIAS}), no fixed version\n"
    )
    monkeypatch.setattr(audit, "ALLOWED", {("ray", ID): "not reachable"})
    assert audit.main(tmp_path) == 0
    assert "no fixed version; allowed: not reachable" in capsys.readouterr().out
    (tmp_path / "broken.yaml").write_text("PyPI: [")
    assert audit.main(tmp_path) == 2
    assert "broken.yaml is not an advisory" in capsys.readouterr().err
