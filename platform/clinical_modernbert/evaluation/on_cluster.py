"""Measurements besides runs: masked tokens (Table 4), code embeddings (figure 2), seconds (figure 3) and trivial baselines.

They run on a worker of the cluster with the resources of a run, because the driver may be on a head node without a GPU.
"""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clinical_modernbert.artifacts import Plan, Store, make_plan, open_store
from clinical_modernbert.evaluation.codes.figures import code_report
from clinical_modernbert.evaluation.efficiency.run import efficiency_report
from clinical_modernbert.evaluation.encoders import LocalEncoder, resolve_encoder
from clinical_modernbert.evaluation.launch import on_worker
from clinical_modernbert.evaluation.masked_tokens import score
from clinical_modernbert.evaluation.report.schema import CodesReport, EfficiencyReport, Table4, read_report
from clinical_modernbert.evaluation.results import Baseline
from clinical_modernbert.evaluation.tasks import KINDS, load_task
from clinical_modernbert.recipe import EvaluateRecipe
from clinical_modernbert.recipe.tasks import EncoderSection, Task


@dataclass(frozen=True, slots=True)
class Measured:
    """What a worker returns; a part is None where the recipe does not request it."""

    table_4: Table4 | None = None
    codes: CodesReport | None = None
    efficiency: EfficiencyReport | None = None
    not_scored: dict[str, str] = field(default_factory=dict)
    """Encoder -> why it is not in Table 4."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Figures with their data."""


def score_masks(plan: Plan[EvaluateRecipe]) -> None:
    """Publish the evaluation of the store's own model that ``plan`` describes, which has no tasks."""
    recipe = plan.recipe
    on_worker(_score_masks, recipe, plan.store.uri, scaling=recipe.scaling)


def measure_encoders(plan: Plan[EvaluateRecipe], sections: Sequence[EncoderSection]) -> Measured:
    """Measure the recipe's encoders in everything that it requests besides tasks."""
    recipe = plan.recipe
    with_table_4 = plan.artifacts.keys() >= {"model", "corpus"}
    if not (with_table_4 or recipe.codes or recipe.efficiency):
        return Measured()
    return on_worker(_measure, recipe, tuple(sections), plan.store.uri, with_table_4, scaling=recipe.scaling)


def measure_baselines(recipe: EvaluateRecipe, tasks: Iterable[Task]) -> dict[str, list[Baseline]]:
    """Return task -> its trivial baselines, measured on a worker."""
    by_name = {task.name: task for task in tasks}
    return on_worker(_baselines, by_name, recipe.data, scaling=recipe.scaling) if by_name else {}


def _baselines(tasks: dict[str, Task], data: str) -> dict[str, list[Baseline]]:
    return {name: KINDS[task.type].baselines(load_task(task, data)) for name, task in tasks.items()}


def _score_masks(recipe: EvaluateRecipe, store_uri: str) -> None:
    plan = make_plan(recipe, open_store(store_uri))
    if plan.existing() is None:
        score.evaluate(plan)


def _measure(
    recipe: EvaluateRecipe, sections: Sequence[EncoderSection], store_uri: str, with_table_4: bool
) -> Measured:
    scaling = recipe.scaling
    encoders = [resolve_encoder(section) for section in sections]
    table_4, not_scored = _table_4(recipe, open_store(store_uri), encoders) if with_table_4 else (None, {})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        codes = code_report(recipe.codes, encoders, folder=folder, scaling=scaling) if recipe.codes else None
        efficiency = (
            efficiency_report(recipe.efficiency, encoders, folder=folder, scaling=scaling)
            if recipe.efficiency
            else None
        )
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return Measured(table_4, codes, efficiency, not_scored, files)


def _table_4(recipe: EvaluateRecipe, store: Store, encoders: Sequence[LocalEncoder]) -> tuple[Table4, dict[str, str]]:
    """Return the figures of the store's model and of encoders with the corpus' tokenizer, and why others are not scored.

    The figures of the store's model are an evaluation artifact, which an evaluation of masks alone shares.
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
    model_id = plan.artifacts["model"].manifest.id
    others = [e for e in encoders if e.artifact is None or e.artifact.manifest.id != model_id]
    other_masks, not_scored = score.score_encoders(others, plan.artifacts["corpus"], recipe)
    figures = read_report(artifact.summary, called=artifact.uri).table_4
    assert figures is not None, "an evaluation of masks has Table 4"
    return figures.model_copy(update={"model": model_id, "other_masks": other_masks}), not_scored
