"""Artifacts that earlier code made are found again: what was built once is never built twice because the code moved.

``tests/golden/demo_store`` holds manifests of one run of ``jobs/demo.py``, without their summaries;
``python -m tests.helpers.demo_store`` gives them new addresses after a change that is meant to orphan artifacts.
"""

import json
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import Manifest, Store
from clinical_modernbert.artifacts.layout import FORMAT_VERSION
from clinical_modernbert.recipe import RECIPE_TYPES

from tests.helpers import shipped
from tests.helpers.demo_store import plan

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
MANIFESTS = sorted((GOLDEN / "demo_store").glob("*.json"))
FINGERPRINTS: dict[str, str] = json.loads((GOLDEN / "fingerprints.json").read_text())["fingerprints"]


@pytest.fixture
def demo_store(store: Store) -> Store:
    """A store with the manifests of the demo and none of their files."""
    for path in MANIFESTS:
        content = path.read_bytes()
        manifest = Manifest.model_validate_json(content)
        store.write_bytes(f"{manifest.kind}/{manifest.id}/manifest.json", content)
    return store


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_what_the_demo_made_is_found_again(
    path: Path, demo_store: Store, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)  # a sweep reads its base recipe
    manifest = Manifest.model_validate_json(path.read_bytes())
    recipe = RECIPE_TYPES[manifest.recipe["kind"]].model_validate(manifest.recipe)
    if manifest.format_version < FORMAT_VERSION[manifest.kind]:  # raised since: old work is never taken for new
        assert plan(recipe, demo_store).existing() is None
        return
    assert recipe.model_dump(mode="json") == manifest.recipe
    made = plan(recipe, demo_store)
    assert made.inputs == manifest.inputs
    assert made.id == manifest.id
    found = made.existing()
    assert found is not None and found.manifest == manifest


def test_there_is_a_manifest_of_every_kind_that_the_demo_makes() -> None:
    assert {path.stem.partition("-")[0] for path in MANIFESTS} == {"corpus", "model", "sweep", "evaluation", "map"}


@pytest.mark.parametrize("name", shipped.names())
def test_a_shipped_recipe_keeps_its_fingerprint(name: str, store: Store) -> None:
    assert name in FINGERPRINTS, "a new recipe: add its line of `python -m tests.helpers.shipped` to the golden file"
    assert shipped.fingerprint(name, store) == FINGERPRINTS[name]
