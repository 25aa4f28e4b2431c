"""An embed recipe for a table of the tests."""

from pathlib import Path
from typing import Any

from clinical_modernbert.recipe import EmbedRecipe


def recipe(path: Path | str, **changes: Any) -> EmbedRecipe:
    """Return a recipe for ``path`` with ``note_id``, ``text`` and ``ward``; ``changes`` are its other fields."""
    values = {"name": "notes", "model": "tiny", "input_uri": str(path), "id_column": "note_id", "text_column": "text"}
    return EmbedRecipe.model_validate(values | {"metadata_columns": ["ward"]} | changes)
