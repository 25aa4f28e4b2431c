"""The bulk job on Ray Data: count the rows, cut them into parts, embed each part in an actor, publish.

The driver holds counts and paths only. Every part leaves its file with the artifact and a done-marker in the work area, so a
killed job goes on at the first open part; the manifest, written last, accounts for every row.
"""

import json
import logging
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from tqdm import tqdm

from clinical_modernbert.artifacts import Artifact, FileEntry, Plan, upload
from clinical_modernbert.artifacts.layout import work_prefix
from clinical_modernbert.artifacts.work_area import StepResult, WorkArea
from clinical_modernbert.bulk.embed_part import Part, PartEmbedder
from clinical_modernbert.bulk.table import TableFile, fetched, find_tables, quarantine_entry, read_table_rows
from clinical_modernbert.encoder import check_pooling
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe import EmbedRecipe
from clinical_modernbert.runtime import start_ray, user_error
from clinical_modernbert.sources.document import Quarantined

_QUARANTINE_LISTED = 1000


def embed_table(plan: Plan[EmbedRecipe]) -> Artifact:
    """Embed the table that ``plan`` describes and publish ``vectors/*.parquet``; raises ``SourceError`` or ``ModelError``."""
    recipe = plan.recipe
    check_pooling(plan.artifacts["model"], recipe.pooling)
    start_ray()
    area = WorkArea(plan.store.uri, work_prefix("embeddings", plan.id))
    tables = find_tables(recipe)
    counts = _each("count", len(tables), partial(_count, area, recipe, tables), num_cpus=1)
    num_rows = sum(step["rows"] for step in counts)
    # Before the actors start: what cannot be read is known now.
    _refuse_bad_input(recipe, num_rows, [entry for step in counts for entry in step["quarantine"]])
    parts = plan_parts(tables, [step["rows"] for step in counts], part_rows=recipe.part_rows)
    scaling, model_id = recipe.scaling, plan.artifacts["model"].manifest.id
    num_workers = min(scaling.num_workers or _room(recipe), max(len(parts), 1))
    results = _each(
        "embed",
        len(parts),
        PartEmbedder,
        fn_constructor_args=(area, recipe, model_id, parts, plan.prefix),
        compute=ray.data.ActorPoolStrategy(size=num_workers),
        num_cpus=scaling.cpus_per_worker,
        num_gpus=scaling.gpus_per_worker or None,
        # Read once, when the process loads its maths libraries.
        runtime_env={"env_vars": {"OMP_NUM_THREADS": str(scaling.cpus_per_worker)}},
    )
    artifact = _publish(plan, recipe, num_rows, results)
    area.clear()
    return artifact


def plan_parts(tables: list[TableFile], num_rows: list[int], *, part_rows: int) -> list[Part]:
    """Return parts of at most ``part_rows`` rows; those of one file differ by one row at most, so that workers end together."""
    bounds = []
    for table, rows in zip(tables, num_rows, strict=True):
        number = -(-rows // part_rows)
        bounds += [(table, rows * i // number, rows * (i + 1) // number) for i in range(number)]
    return [Part(number, table, start, stop) for number, (table, start, stop) in enumerate(bounds)]


def _count(area: WorkArea, recipe: EmbedRecipe, tables: list[TableFile], row: dict[str, Any]) -> dict[str, Any]:
    table = tables[row["id"]]

    def run() -> StepResult:
        with fetched(table) as location:
            number, bad = 0, []
            for number, item in enumerate(read_table_rows(location, file=table.key, recipe=recipe), start=1):  # noqa: B007
                if isinstance(item, Quarantined):
                    bad.append(quarantine_entry(item))
            return {"rows": number, "quarantine": bad}

    return {"id": row["id"], "result": json.dumps(area.once(f"count/{row['id']:06d}", run))}


def _room(recipe: EmbedRecipe) -> int:
    """Return how many actors the cluster has room for."""
    resources, scaling = ray.cluster_resources(), recipe.scaling
    room = int(resources.get("CPU", 0)) // scaling.cpus_per_worker
    if scaling.gpus_per_worker:
        room = min(room, int(resources.get("GPU", 0)) // scaling.gpus_per_worker)
    if not room:
        raise SourceError(
            f"scaling: no actor with cpus_per_worker={scaling.cpus_per_worker} and gpus_per_worker={scaling.gpus_per_worker} "
            "fits this cluster; lower them, or set num_workers where workers are still to come"
        )
    return room


def _each(name: str, number: int, run: Callable[..., Any], **options: Any) -> list[StepResult]:
    """Run one Ray Data task for each of ``number`` ids and return the results in order."""
    if not number:
        return []
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False  # a slow part must not hold back the others
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # Items, not a range: reading a range takes CPUs, and the actors may hold them all.
    ids = ray.data.from_items([{"id": i} for i in range(number)], override_num_blocks=number)
    results: dict[int, StepResult] = {}
    try:
        for row in tqdm(ids.map(run, **options).iter_rows(), desc=name, total=number, unit="task"):
            results[row["id"]] = json.loads(row["result"])
    except Exception as error:
        found = user_error(error)
        if found:
            raise found from None
        raise
    return [results[i] for i in range(number)]


def _refuse_bad_input(recipe: EmbedRecipe, num_rows: int, bad: list[list[str | None]]) -> None:
    if len(bad) > recipe.max_quarantined_fraction * num_rows:
        shown = "; ".join(f"{file} {position}: {reason}" for file, position, reason, _ in bad[:5])
        raise SourceError(
            f"{len(bad)} of {num_rows} rows had to be quarantined, more than max_quarantined_fraction="
            f"{recipe.max_quarantined_fraction} allows: {shown}"
        )


def _publish(plan: Plan[EmbedRecipe], recipe: EmbedRecipe, num_rows: int, results: list[StepResult]) -> Artifact:
    bad = [entry for result in results for entry in result["quarantine"]]
    _refuse_bad_input(recipe, num_rows, bad)
    account = {key: sum(result[key] for result in results) for key in ("embedded", "empty")} | {"quarantined": len(bad)}
    assert num_rows == sum(account.values()), (num_rows, account)
    if not account["embedded"]:
        raise SourceError(f"input_uri: no row of {recipe.input_uri!r} has text to embed: {account}")
    files = [FileEntry.model_validate(result["file"]) for result in results]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quarantine.parquet"
        names = ("file", "position", "reason", "id")
        columns = zip(*bad, strict=True) if bad else [()] * len(names)
        pq.write_table(pa.table({n: pa.array(c, pa.string()) for n, c in zip(names, columns, strict=True)}), path)
        files.append(upload(plan.store, plan.prefix, path.name, path))
    summary = {
        "rows": num_rows,
        **account,
        **{key: sum(result[key] for result in results) for key in ("tokens", "truncated", "in_windows")},
        "rows_of_parts": [result["embedded"] for result in results],
        "quarantine": [dict(zip(names, entry, strict=True)) for entry in bad[:_QUARANTINE_LISTED]],
        "model": plan.artifacts["model"].manifest.id,
        "pooling": recipe.pooling,
        "normalize": recipe.normalize,
        "metadata_columns": list(recipe.metadata_columns),
    }
    return plan.publish(files, summary=summary)
