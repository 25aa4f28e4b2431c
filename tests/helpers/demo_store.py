"""Give the manifests of ``tests/golden/demo_store`` the addresses that the present formats and schema give their recipes.

``python -m tests.helpers.demo_store`` rewrites them. Run it, as ``tests.helpers.shipped``, for a change that is meant to orphan
earlier artifacts (a raised format, a new setting), and never to silence the test that finds them again.
"""

import tempfile
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts import Manifest, Plan, Store, make_plan, open_store
from clinical_modernbert.artifacts.layout import FORMAT_VERSION, KINDS
from clinical_modernbert.corpus.fingerprint_inputs import fingerprint_inputs as corpus_inputs
from clinical_modernbert.evaluation.fingerprint_inputs import fingerprint_inputs as evaluation_inputs
from clinical_modernbert.recipe import RECIPE_TYPES, CorpusRecipe, EvaluateRecipe, Recipe, SweepRecipe
from clinical_modernbert.sweeps.trials import sweep_plan

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "demo_store"


def plan(recipe: Recipe, store: Store) -> Plan[Any]:
    """The plan as the recipe's job makes it."""
    match recipe:
        case CorpusRecipe():
            return make_plan(recipe, store, raw_inputs=corpus_inputs(recipe))
        case EvaluateRecipe():
            return make_plan(recipe, store, raw_inputs=evaluation_inputs(recipe))
        case SweepRecipe():
            return sweep_plan(recipe, store)
    return make_plan(recipe, store)


def _rewrite() -> None:
    manifests = [Manifest.model_validate_json(path.read_bytes()) for path in FOLDER.glob("*.json")]
    new_ids: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        for manifest in sorted(manifests, key=lambda manifest: KINDS.index(manifest.kind)):  # inputs first
            values = {name: new_ids.get(str(value), value) for name, value in manifest.recipe.items()}
            recipe = RECIPE_TYPES[values["kind"]].model_validate(values)
            made = plan(recipe, store)
            changed = manifest.model_copy(
                update={
                    "id": made.id,
                    "fingerprint": made.fingerprint,
                    "format_version": FORMAT_VERSION[manifest.kind],
                    "recipe": recipe.model_dump(mode="json"),
                    "inputs": made.inputs,
                }
            )
            content = changed.model_dump_json(indent=1)
            store.write_bytes(f"{changed.kind}/{changed.id}/manifest.json", content.encode())
            (FOLDER / f"{manifest.kind}-{manifest.id}.json").unlink()
            (FOLDER / f"{changed.kind}-{changed.id}.json").write_text(content + "\n", encoding="utf-8")
            new_ids[manifest.id] = changed.id


if __name__ == "__main__":
    _rewrite()
