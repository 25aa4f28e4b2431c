"""What the folder of a sentence-transformers model says about its vectors. Loads no torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe.vocabulary import Pooling

_POOLINGS: dict[str, Pooling] = {
    "cls": "cls",
    "mean": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
}


@dataclass(frozen=True, slots=True)
class VectorFolder:
    """How a model makes vectors; all unknown for a folder without sentence-transformers' files."""

    pooling: Pooling | None = None
    max_tokens: int | None = None
    query_prompt: str = ""
    document_prompt: str = ""


def read_vector_folder(folder: Path, *, field: str) -> VectorFolder:
    """Return what the folder says; ``ModelError`` with the field's name for a pooling that is not known."""
    modes = _read(folder / "1_Pooling" / "config.json")
    # The newer form is one name, the older one a switch for each mode.
    chosen = (
        {modes["pooling_mode"]} if "pooling_mode" in modes else {mode for mode, is_on in modes.items() if is_on is True}
    )
    chosen -= {"include_prompt"}
    if modes and not (len(chosen) == 1 and chosen <= _POOLINGS.keys()):
        raise ModelError(
            f"{field}: pools by {', '.join(sorted(chosen)) or 'nothing'} (1_Pooling/config.json); known are "
            "the [CLS] token and the mean"
        )
    prompts = _read(folder / "config_sentence_transformers.json").get("prompts") or {}
    limit = _read(folder / "sentence_bert_config.json").get("max_seq_length")
    return VectorFolder(
        pooling=_POOLINGS[chosen.pop()] if modes else None,
        max_tokens=limit if isinstance(limit, int) else None,
        query_prompt=str(prompts.get("query") or ""),
        document_prompt=str(prompts.get("document") or prompts.get("passage") or ""),
    )


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return values
