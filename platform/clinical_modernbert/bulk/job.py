"""What the bulk jobs on Ray Data share: count the rows, cut them into ranges, run each range in an actor, account, publish.

The driver holds counts and paths only. Every range leaves its file with the artifact and its result in the work area, so a
killed job continues at the first open range. The manifest, written last, accounts for every row.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.artifacts.layout import work_prefix
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.bulk.duplicate_ids import Duplicates, IdHashes, find_duplicates, num_partitions, positions
from clinical_modernbert.bulk.ranges import RangeResult, RowRange, plan_ranges
from clinical_modernbert.bulk.table import Entry, TableFile, fetched, find_tables, quarantine_entry, read_table_rows
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe import TableRecipe
from clinical_modernbert.runtime import Actors, each_call, each_call_in_actors, start_ray
from clinical_modernbert.sources.document import Quarantined

T = TypeVar("T", bound=TableRecipe)

_QUARANTINE_LISTED = 1000
_ACTOR_BYTES = 1 << 30
"""Memory of an actor next to its weights: libraries, a slice of texts with its tokens, and one batch."""
_QUARANTINE_COLUMNS = ("file", "position", "reason", "id")


@dataclass(frozen=True, slots=True)
class Counted:
    """One file whose rows were counted."""

    rows: int
    quarantine: tuple[Entry, ...]


def run_table(
    plan: Plan[T],
    make: Callable[[WorkArea, T, str, str], Callable[[RowRange], RangeResult]],
    *,
    done: str,
    facts: Mapping[str, Any],
) -> Artifact:
    """Run each range of the recipe's table in an actor, which ``make`` builds, and publish their files.

    ``done`` names the rows that the model read in the manifest's account, and ``facts`` are added to it. Raises ``SourceError``.
    """
    recipe = plan.recipe
    start_ray()
    area = WorkArea(plan.store.uri, work_prefix(plan.kind, plan.id))
    tables = find_tables(recipe)
    counts = each_call("count", [partial(_count, area, recipe, table, n) for n, table in enumerate(tables)], Counted)
    num_rows = sum(step.rows for step in counts)
    # Before the actors start: what cannot be read is known now.
    _refuse_bad_input(recipe, num_rows, [entry for step in counts for entry in step.quarantine])
    duplicates = _count_duplicates(area, recipe, tables, num_rows)
    ranges = plan_ranges(tables, [step.rows for step in counts], max_rows=recipe.part_rows)
    scaling, model = recipe.scaling, plan.artifacts["model"]
    actors = Actors(
        num=min(scaling.num_workers or _room(recipe, model), max(len(ranges), 1)),
        num_cpus=scaling.cpus_per_worker,
        num_gpus=scaling.gpus_per_worker,
        # Never more than there is: a cluster that is too small by this estimate still runs one actor.
        memory_bytes=min(_actor_bytes(model), int(ray.cluster_resources().get("memory", 0))),
    )
    each = partial(make, area, recipe, model.manifest.id, plan.prefix)
    results = each_call_in_actors(done, ranges, each, RangeResult, actors=actors)
    artifact = _publish(plan, num_rows, results, done=done, facts={"duplicate_ids": duplicates, **facts})
    area.clear()
    return artifact


def _count(area: WorkArea, recipe: TableRecipe, table: TableFile, number: int) -> Counted:
    def run() -> Counted:
        rows, bad, ids = 0, [], IdHashes()
        with fetched(table) as location:
            for item in read_table_rows(location, file=table.key, recipe=recipe):
                if isinstance(item, Quarantined):
                    bad.append(quarantine_entry(item))
                else:
                    ids.add(rows, item.id)
                rows += 1
        ids.put(area, number)
        return Counted(rows, tuple(bad))

    return area.once(f"count/{number:06d}", run, Counted)


def _count_duplicates(area: WorkArea, recipe: TableRecipe, tables: Sequence[TableFile], num_rows: int) -> int:
    """Return the number of rows whose id an earlier row has; raises ``SourceError`` if the recipe refuses them."""
    number = num_partitions(num_rows)
    calls = [partial(find_duplicates, area, len(tables), partition, number) for partition in range(number)]
    found = each_call("ids", calls, Duplicates)
    total = sum(one.number for one in found)
    if total and recipe.duplicate_ids == "refuse":
        shown = "; ".join(f"{tables[file].key} row {row + 1}" for file, row in positions(found))
        raise SourceError(
            f"id_column: {total} of {num_rows} rows have an id in {recipe.id_column!r} that an earlier row has: {shown}; "
            "give each row its own id, or set duplicate_ids=keep"
        )
    return total


def _room(recipe: TableRecipe, model: Artifact) -> int:
    """Return how many actors the cluster has room for, by its CPUs, GPUs and memory."""
    resources, scaling = ray.cluster_resources(), recipe.scaling
    room = int(resources.get("CPU", 0)) // scaling.cpus_per_worker
    if scaling.gpus_per_worker:
        room = min(room, int(resources.get("GPU", 0)) // scaling.gpus_per_worker)
    if not room:
        raise SourceError(
            f"scaling: no actor with cpus_per_worker={scaling.cpus_per_worker} and gpus_per_worker={scaling.gpus_per_worker} "
            "fits this cluster; lower them, or set num_workers where workers are still to come"
        )
    return min(room, max(1, int(resources.get("memory", 0)) // _actor_bytes(model)))


def _actor_bytes(model: Artifact) -> int:
    """Return the memory of an actor. The weights count twice: while it loads, an actor holds the file and the model."""
    weights = sum(entry.size_bytes for entry in model.manifest.files if entry.path.startswith("model/"))
    return _ACTOR_BYTES + 2 * weights


def _refuse_bad_input(recipe: TableRecipe, num_rows: int, bad: Sequence[Entry]) -> None:
    if len(bad) > recipe.max_quarantined_fraction * num_rows:
        shown = "; ".join(f"{file} {position}: {reason}" for file, position, reason, _ in bad[:5])
        raise SourceError(
            f"{len(bad)} of {num_rows} rows had to be quarantined, more than max_quarantined_fraction="
            f"{recipe.max_quarantined_fraction} allows: {shown}"
        )


def _publish(
    plan: Plan[T], num_rows: int, results: Sequence[RangeResult], *, done: str, facts: Mapping[str, Any]
) -> Artifact:
    recipe = plan.recipe
    bad = [entry for result in results for entry in result.quarantine]
    _refuse_bad_input(recipe, num_rows, bad)
    read, empty = sum(result.done for result in results), sum(result.empty for result in results)
    account = {done: read, "empty": empty, "quarantined": len(bad)}
    assert num_rows == sum(account.values()), (num_rows, account)
    if not read:
        raise SourceError(f"input_uri: no row of {recipe.input_uri!r} has text to read: {account}")
    summary = {
        "rows": num_rows,
        **account,
        "tokens": sum(result.tokens for result in results),
        "truncated": sum(result.truncated for result in results),
        "in_windows": sum(result.in_windows for result in results),
        "rows_of_parts": [result.done for result in results],
        "quarantine": [dict(zip(_QUARANTINE_COLUMNS, entry, strict=True)) for entry in bad[:_QUARANTINE_LISTED]],
        "model": plan.artifacts["model"].manifest.id,
        "precision": recipe.precision,
        **facts,
    }
    labels = sorted({label for result in results for label in result.labels})
    if labels:
        summary["spans"] = {label: sum(result.labels.get(label, 0) for result in results) for label in labels}
    columns = list(zip(*bad, strict=True)) if bad else [()] * len(_QUARANTINE_COLUMNS)
    arrays = {n: pa.array(c, pa.string()) for n, c in zip(_QUARANTINE_COLUMNS, columns, strict=True)}
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.table(arrays), Path(folder) / "quarantine.parquet")
        return plan.publish_folder(Path(folder), summary=summary, uploaded=[result.file for result in results])
