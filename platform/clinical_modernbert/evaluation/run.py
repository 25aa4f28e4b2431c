"""An evaluation: every encoder on every task with every seed, each run an artifact, then one report.

A finished run is found by its fingerprint: a killed evaluation resumes with the runs that are left, and two reports share their
runs.
"""

import json
import logging
import re
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from clinical_modernbert.artifacts import Artifact, Plan, resolve
from clinical_modernbert.errors import ModelError
from clinical_modernbert.evaluation.encoders import artifact_encoder, resolve_encoder
from clinical_modernbert.evaluation.fingerprint_inputs import missing_path, present_encoders
from clinical_modernbert.evaluation.launch import launch
from clinical_modernbert.evaluation.on_cluster import measure_baselines, measure_encoders, score_masks
from clinical_modernbert.evaluation.report.build import compare
from clinical_modernbert.evaluation.report.schema import Report, Skipped, report_json
from clinical_modernbert.evaluation.report.text import render
from clinical_modernbert.evaluation.results import Failed, Finished
from clinical_modernbert.evaluation.runs import run_plan
from clinical_modernbert.evaluation.tasks import KINDS
from clinical_modernbert.progress import watch
from clinical_modernbert.recipe import EvaluateRecipe, FineTuneRecipe, ProbeRecipe, RunRecipe
from clinical_modernbert.recipe.tasks import EncoderSection, Task

_logger = logging.getLogger(__name__)


def evaluate(plan: Plan[EvaluateRecipe]) -> Artifact:
    """Run the evaluation and publish ``report.json``, ``report.md`` and the figures. The artifact's summary is the report."""
    recipe = plan.recipe
    if not (recipe.tasks or recipe.codes or recipe.efficiency):
        score_masks(plan)
        return resolve(plan.store, plan.kind, plan.id)
    encoders, absent = evaluated_encoders(plan)
    if not encoders:
        raise ModelError("none of the encoders is on this machine: " + "; ".join(absent.values()))
    skipped = {
        task.name: f"{path} does not exist" for task in recipe.tasks if (path := missing_path(task, recipe.data))
    }
    missing = {
        field: f"no {kind} {reference!r} in {plan.store.uri}"
        for field, (kind, reference) in recipe.references().items()
        if field not in plan.artifacts
    }
    for name, reason in (absent | missing | skipped).items():
        _logger.warning("skipped %s: %s", name, reason)
    present = tuple(task for task in recipe.tasks if task.name not in skipped)
    finished, failed = _run_all(plan, list(_runs(recipe, present, encoders)))
    measured = measure_encoders(plan, encoders)
    comparison = compare(
        recipe,
        finished,
        failed=failed,
        encoders=[resolve_encoder(section) for section in encoders],
        own=encoders[0].name if "model" in plan.artifacts else None,
        skipped=Skipped(encoders=absent, artifacts=missing, tasks=skipped, masks=measured.not_scored),
        baselines=measure_baselines(recipe, [run.recipe.task for run in finished]),
    )
    report = Report(
        comparison=comparison, table_4=measured.table_4, codes=measured.codes, efficiency=measured.efficiency
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in measured.files.items():
            (folder / file).write_bytes(content)
        (folder / "report.json").write_text(json.dumps(report_json(report), indent=1), encoding="utf-8")
        (folder / "report.md").write_text(render(report), encoding="utf-8")
        return plan.publish_folder(folder, summary=report_json(report))


def evaluated_encoders(plan: Plan[EvaluateRecipe]) -> tuple[list[EncoderSection], dict[str, str]]:
    """Return the encoders that are on this machine, ``model`` of the recipe first, and name -> reason for the others."""
    recipe = plan.recipe
    present, absent = present_encoders(recipe.encoders)
    names = {encoder.name for encoder in present}
    sections = [section for section in recipe.encoders if section.name in names]
    own = plan.artifacts.get("model")
    if own is None:
        return sections, absent
    name = own.manifest.id.rpartition("-")[0][:20].strip("-")
    if name in names | set(absent):
        raise ModelError(f"encoders: {name!r} is the name of model; give the encoder another name")
    return [artifact_encoder(name, own), *sections], absent


def _runs(recipe: EvaluateRecipe, tasks: tuple[Task, ...], encoders: list[EncoderSection]) -> Iterator[RunRecipe]:
    for task, encoder, mode in product(tasks, encoders, recipe.modes):
        trains = KINDS[task.type].trains(task, mode)
        if mode == "fine_tuned" and not trains:
            continue
        # Without training nothing is drawn: all seeds give one figure, and there is no curve over training examples.
        seeds = recipe.seeds if trains else recipe.seeds[:1]
        sizes = (None, *recipe.few_shot) if trains else (None,)
        make = FineTuneRecipe if mode == "fine_tuned" else ProbeRecipe
        for seed, size in product(seeds, sizes):
            yield make(
                name=_run_name(task, encoder),
                encoder=encoder,
                task=task,
                data=recipe.data,
                seed=seed,
                num_train=size,
                tuning=recipe.tuning,
                scaling=recipe.scaling,
            )


def _run_name(task: Task, encoder: EncoderSection) -> str:
    return re.sub(r"[^a-z0-9-]", "-", f"{task.name}-{encoder.name}")[:40].strip("-")


def _run_all(plan: Plan[EvaluateRecipe], recipes: list[RunRecipe]) -> tuple[list[Finished], list[Failed]]:
    """Do the runs that are not finished; return the finished ones and the failed ones in the order of ``recipes``."""
    plans = [run_plan(recipe, plan.store) for recipe in recipes]
    with watch(
        f"evaluate {plan.id}", total=len(plans), unit="run", done=lambda: sum(p.existing() is not None for p in plans)
    ):
        reasons = launch([made for made in plans if made.existing() is None])
    if reasons and len(reasons) == len(plans):
        first = next(iter(reasons))
        raise ModelError(f"all {len(plans)} runs failed; run {first}: {reasons[first]}")
    finished = [
        Finished(made.recipe, resolve(plan.store, made.kind, made.id)) for made in plans if made.id not in reasons
    ]
    return finished, [Failed(made.recipe, reasons[made.id]) for made in plans if made.id in reasons]
