"""What is measured of encoders beside tasks: hidden tokens (Table 4), the code map (Figure 2) and seconds (Figure 3).

A worker of the cluster does it, with the resources of a run: the driver may sit on a head that has no GPU.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts import Plan, Store, make_plan, open_store
from clinical_modernbert.evaluation.codes.figures import code_report
from clinical_modernbert.evaluation.efficiency.run import efficiency_report
from clinical_modernbert.evaluation.encoders import LocalEncoder, resolve_encoder
from clinical_modernbert.evaluation.launch import on_worker
from clinical_modernbert.evaluation.masked_tokens import score
from clinical_modernbert.recipe import EvaluateRecipe
from clinical_modernbert.recipe.tasks import EncoderSection


@dataclass(frozen=True, slots=True)
class Measured:
    """What a worker hands back."""

    report: dict[str, Any]
    """Parts of the report: ``masks`` and what belongs to it, ``codes``, ``efficiency``."""
    not_asked: dict[str, str]
    """Encoder -> why it is not in Table 4."""
    files: dict[str, bytes]
    """Figures with their data."""


def score_masks(plan: Plan[EvaluateRecipe]) -> None:
    """Publish the evaluation of the store's own model that ``plan`` describes, which has no tasks."""
    recipe = plan.recipe
    on_worker(_score_masks, recipe.model_dump(mode="json"), plan.store.uri, scaling=recipe.scaling)


def measure_encoders(plan: Plan[EvaluateRecipe], sections: Sequence[EncoderSection]) -> Measured:
    """Measure the recipe's encoders in all that it asks for beside tasks."""
    recipe = plan.recipe
    asked = plan.artifacts.keys() >= {"model", "corpus"}
    if not (asked or recipe.codes or recipe.efficiency):
        return Measured({}, {}, {})
    encoders = [section.model_dump(mode="json") for section in sections]
    found: Measured = on_worker(
        _measure, recipe.model_dump(mode="json"), encoders, plan.store.uri, asked, scaling=recipe.scaling
    )
    return found


def _score_masks(values: dict[str, Any], store_uri: str) -> None:
    plan = make_plan(EvaluateRecipe.model_validate(values), open_store(store_uri))
    if plan.existing() is None:
        score.evaluate(plan)


def _measure(values: dict[str, Any], sections: list[dict[str, Any]], store_uri: str, masks: bool) -> Measured:
    recipe = EvaluateRecipe.model_validate(values)
    encoders = [resolve_encoder(EncoderSection.model_validate(section)) for section in sections]
    report, not_asked = _table_4(recipe, open_store(store_uri), encoders) if masks else ({}, {})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if recipe.codes is not None:
            report["codes"] = code_report(recipe.codes, encoders, folder=folder, scaling=recipe.scaling)
        if recipe.efficiency is not None:
            report["efficiency"] = efficiency_report(recipe.efficiency, encoders, folder=folder, scaling=recipe.scaling)
        return Measured(report, not_asked, {path.name: path.read_bytes() for path in sorted(folder.iterdir())})


def _table_4(
    recipe: EvaluateRecipe, store: Store, encoders: Sequence[LocalEncoder]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the store's own model first, then whoever has the corpus' tokenizer, and why others are not asked.

    The own model's part is an evaluation by itself, which a report without tasks would also find.
    """
    alone = EvaluateRecipe(
        name=f"{recipe.name[:34]}-masks",
        model=recipe.model,
        corpus=recipe.corpus,
        sequence_length=recipe.sequence_length,
        max_rows=recipe.max_rows,
        top_k=recipe.top_k,
        num_resamples=recipe.num_resamples,
        bigram_rows=recipe.bigram_rows,
        scaling=recipe.scaling,
    )
    plan = make_plan(alone, store)
    artifact = plan.existing() or score.evaluate(plan)
    own = plan.artifacts["model"].manifest.id
    others = [encoder for encoder in encoders if encoder.artifact is None or encoder.artifact.manifest.id != own]
    found, refused = score.score_encoders(others, plan.artifacts["corpus"], recipe)
    return {"model": own, "other_masks": found, **artifact.summary}, refused
