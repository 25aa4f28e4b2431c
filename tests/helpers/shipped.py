"""Fingerprints of the shipped recipes over fixed inputs, for ``tests/golden/fingerprints.json``.

``python -m tests.helpers.shipped`` prints the file. Run it on the commit before a change of the schema, never after: a value that
differs orphans every artifact of that recipe.
"""

import json
import sys
import tempfile
from pathlib import Path

from clinical_modernbert.artifacts import InputEntry, Store, make_plan, open_store
from clinical_modernbert.artifacts.layout import ARTIFACT_KIND_OF_RECIPE
from clinical_modernbert.recipe import RECIPE_TYPES, Recipe, load_recipe

RECIPES = Path(__file__).resolve().parents[2] / "jobs" / "recipes"
_RAW = (InputEntry(name="notes/a.csv", id="notes", digest="a" * 64),)


def names() -> list[str]:
    """Return the shipped recipes that make an artifact, as ``<kind>/<name>``."""
    found = (path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml"))
    return sorted(name for name in found if name.partition("/")[0] in ARTIFACT_KIND_OF_RECIPE)


def fingerprint(name: str, store: Store) -> str:
    """Return a recipe's fingerprint over one raw file and one published artifact for each reference."""
    with tempfile.TemporaryDirectory() as folder:
        return _fingerprint(name, store, Path(folder))


def _fingerprint(name: str, store: Store, checkpoint: Path) -> str:
    recipe_type = RECIPE_TYPES[name.partition("/")[0]]
    recipe: Recipe = load_recipe(recipe_type, name, recipes_path=RECIPES)
    if sources := recipe.model_sources():
        # A checkpoint of fixed content stands for the one on the hub, in the store or in a package.
        (checkpoint / "config.json").write_text("{}")
        recipe = load_recipe(
            recipe_type, name, overrides=[f"{field}={checkpoint}" for field in sources], recipes_path=RECIPES
        )
    for source in recipe.state_sources().values():
        run, _, step = source.partition("@")
        _publish(store, "checkpoint", f"{run}-{'0' * 12}/{int(step):09d}-0", summary={"step": int(step)})
    for kind, reference in recipe.references().values():
        _publish(store, kind, f"{reference}-{'0' * 12}")
    return make_plan(recipe, store, raw_inputs=_RAW).fingerprint


def _publish(store: Store, kind: str, artifact_id: str, *, summary: dict[str, int] | None = None) -> None:
    manifest = {
        "kind": kind,
        "id": artifact_id,
        "fingerprint": "0" * 12,
        "format_version": 1,
        "code_version": "0",
        "created_at": "2026-01-01T00:00:00+00:00",
        "recipe": {},
        "inputs": [],
        "summary": summary or {},
        "files": [{"path": "file", "size_bytes": 1, "sha256": "b" * 64}],
    }
    store.write_bytes(f"{kind}/{artifact_id}/manifest.json", json.dumps(manifest).encode())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        root = open_store(folder)
        values = {name: fingerprint(name, root) for name in names()}
    sys.stdout.write(
        json.dumps({"command": "python -m tests.helpers.shipped", "fingerprints": values}, indent=1) + "\n"
    )
