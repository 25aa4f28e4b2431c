"""Build a corpus with Ray Data: passes of one task a unit, partition or shard; the driver holds paths and counts only.

parse -> versions, exact and near duplicates by hash partition -> tokenizer (one task) -> tokenise -> pack. Every task
leaves its files in the work area and a done-marker behind them, so that a killed build goes on from the units that are done.
Tasks are pure functions of their arguments: the shards are byte-equal whatever the number of workers.
"""

import json
import logging
import math
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import ray.data
from tqdm import tqdm

from clinical_modernbert.artifacts import Artifact, Plan, find_artifact
from clinical_modernbert.artifacts.layout import work_prefix
from clinical_modernbert.corpus.documents import parse_unit
from clinical_modernbert.corpus.duplicates import (
    Parts,
    find_duplicates,
    find_near_duplicates,
    kept_rows,
    resolve_versions,
    sketch_unit,
)
from clinical_modernbert.corpus.near import NUM_BANDS
from clinical_modernbert.corpus.publish import drops, publish_corpus
from clinical_modernbert.corpus.shingles import evaluation_ngrams
from clinical_modernbert.corpus.split import SPLITS
from clinical_modernbert.corpus.tokens import ShardUnit, pack_shard, read_texts, tokenise_unit
from clinical_modernbert.corpus.work import StepResult, WorkArea
from clinical_modernbert.errors import CorpusError, UserError
from clinical_modernbert.lexicon import build_terms
from clinical_modernbert.recipe import CorpusRecipe
from clinical_modernbert.runtime import start_ray, user_error
from clinical_modernbert.sources import list_units
from clinical_modernbert.sources.document import Unit
from clinical_modernbert.tokenizer import build_tokenizer, padded_vocabulary_size

_DOCUMENTS_A_PART = 2_000_000
_BANDS_A_PART = 8_000_000


def build_corpus(plan: Plan) -> Artifact:
    """Build the corpus that ``plan`` describes and publish it; a build that is refused leaves nothing behind."""
    recipe = plan.recipe
    assert isinstance(recipe, CorpusRecipe)
    start_ray(num_cpus=recipe.scaling.num_cpus)
    _clear_published(plan)
    area = WorkArea(plan.store.uri, work_prefix("corpus", plan.id))
    try:
        artifact = _build(plan, recipe, area)
    except UserError:
        area.clear()
        raise
    area.clear()
    return artifact


def _clear_published(plan: Plan) -> None:
    """Clear the areas of corpora that were published: a kill between the manifest and the end leaves one."""
    top = work_prefix("corpus", "")
    names = {item.key.removeprefix(top).lstrip("/").partition("/")[0] for item in plan.store.walk(top)}
    for name in sorted(names - {""}):
        if find_artifact(plan.store, "corpus", name):
            WorkArea(plan.store.uri, work_prefix("corpus", name)).clear()


def _build(plan: Plan, recipe: CorpusRecipe, area: WorkArea) -> Artifact:
    units = [unit for source in recipe.sources for unit in list_units(source)]
    numbers = range(len(units))

    if recipe.decontamination.paths:
        ray.get(ray.remote(num_cpus=1)(_prepare_evaluation).remote(area, recipe.decontamination.paths))
    parsed = _each(
        "parse",
        recipe,
        [{"area": area, "recipe": recipe, "unit": unit, "number": n} for n, unit in enumerate(units)],
        parse_unit,
    )
    _refuse_bad_input(recipe, parsed)
    num_read = [step["counts"].get("read", 0) for step in parsed]
    num_parts = 1 + sum(num_read) // _DOCUMENTS_A_PART
    parts = _deduplicate(area, recipe, num_read, num_parts)
    tokenizer_task = ray.remote(num_cpus=1)(_prepare_tools).remote(area, recipe, num_read, parts)
    vocabulary_size = ray.get(tokenizer_task)["vocabulary_size"]
    tokenised = _each(
        "tokenise",
        recipe,
        [
            {"area": area, "unit": n, "source": units[n].source, "num_rows": num_read[n], "parts": parts}
            for n in numbers
        ],
        tokenise_unit,
    )
    shards = _plan_shards(area, recipe, units, tokenised, output_prefix=plan.prefix)
    packed = _each("pack", recipe, shards, pack_shard)
    return publish_corpus(plan, area, parsed, tokenised, shards, packed, vocabulary_size, num_read, parts)


def _deduplicate(area: WorkArea, recipe: CorpusRecipe, num_read: list[int], num_parts: int) -> Parts:
    """Run the passes that decide which documents stay, each over what the one before kept."""
    parts: Parts = {}
    calls: list[dict[str, Any]] = [
        {"area": area, "num_units": len(num_read), "part": part, "num_parts": num_parts} for part in range(num_parts)
    ]
    _each("versions", recipe, calls, resolve_versions)
    parts["versions"] = num_parts
    calls = [{**call, "earlier": dict(parts)} for call in calls]
    _each("duplicates", recipe, calls, find_duplicates)
    parts["duplicates"] = num_parts
    if recipe.dedup.near:
        near_parts = 1 + sum(num_read) * NUM_BANDS // _BANDS_A_PART
        shared = {"area": area, "num_parts": near_parts, "min_words": recipe.dedup.min_words, "earlier": dict(parts)}
        _each(
            "sketch", recipe, [{**shared, "unit": n, "num_rows": rows} for n, rows in enumerate(num_read)], sketch_unit
        )
        calls = [{"area": area, "num_units": len(num_read), "part": part} for part in range(near_parts)]
        _each("near", recipe, calls, find_near_duplicates)
        parts["near"] = near_parts
    return parts


def _prepare_evaluation(area: WorkArea, paths: tuple[str, ...]) -> StepResult:
    """Write the 13-word sequences of the evaluation sets."""
    from clinical_modernbert.sources.evaluation_texts import evaluation_texts  # type: ignore[import-not-found]

    def run() -> StepResult:
        ngrams = evaluation_ngrams(text for path in paths for text in evaluation_texts(Path(path)))
        area.put_array(ngrams, "evaluation.npy")
        return {"ngrams": len(ngrams)}

    return area.once("evaluation", run)


def _each(
    name: str, recipe: CorpusRecipe, calls: list[dict[str, Any]], run: Callable[..., StepResult]
) -> list[StepResult]:
    """Run one Ray Data task a call and return the results in the calls' order."""
    if not calls:
        return []
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False  # a slow file must not hold back the others
    logging.getLogger("ray.data").setLevel(logging.WARNING)

    def task(row: dict[str, Any]) -> dict[str, Any]:
        # Results are JSON already (the work area keeps them as such); as one string no schema has to be guessed for them.
        return {"id": row["id"], "result": json.dumps(run(**calls[row["id"]]))}

    tasks = ray.data.range(len(calls), override_num_blocks=len(calls))
    results: dict[int, StepResult] = {}
    running = tasks.map(task, num_cpus=1, concurrency=recipe.scaling.num_cpus).iter_rows()
    try:
        for row in tqdm(running, desc=name, total=len(calls), unit="task"):
            results[row["id"]] = json.loads(row["result"])
    except Exception as error:
        # The user's mistake arrives wrapped by Ray Data and by Ray, each with a traceback; what he needs is in its midst.
        found = user_error(error)
        if found:
            raise found from None
        raise
    return [results[number] for number in range(len(calls))]


def _refuse_bad_input(recipe: CorpusRecipe, parsed: list[StepResult]) -> None:
    records = sum(step["counts"].get("records", 0) for step in parsed)
    num_bad = sum(step["counts"].get("quarantined", 0) for step in parsed)
    bad = [entry for step in parsed for entry in step["quarantine"]]
    shown = "; ".join(f"{e['source']}/{e['file']} {e['position']}: {e['reason']}" for e in bad[:5])
    lost = sum(unread_records([step for step in parsed if step["source"] == s.name]) for s in recipe.sources)
    if num_bad + lost > recipe.max_quarantined_fraction * (records + lost):
        rest = f" and about {lost:.0f} more were not read behind damage" if lost else ""
        raise CorpusError(
            f"{num_bad} of {records} records had to be quarantined{rest}, more than max_quarantined_fraction="
            f"{recipe.max_quarantined_fraction} allows: {shown}"
        )
    if not any(step["counts"].get("read", 0) for step in parsed):
        reasons = sum((Counter(drops(step)) for step in parsed), Counter[str]())
        raise CorpusError(
            f"no document is left of {records} records: dropped {dict(reasons)}, quarantined {num_bad} {shown}"
        )


def unread_records(parsed: list[StepResult]) -> float:
    """Return about how many records of one source lie behind damage: its unread bytes at the rate of its read ones."""
    unread = sum(step["unread_bytes"] for step in parsed)
    read = sum(step["bytes"] for step in parsed) - unread
    if not unread:
        return 0.0
    # Where nothing was read, how many records there are is not known either: more than any share allows.
    return unread * sum(step["counts"].get("records", 0) for step in parsed) / read if read else math.inf


def _prepare_tools(area: WorkArea, recipe: CorpusRecipe, num_read: list[int], parts: Parts) -> StepResult:
    """Write the lexicon's terms and the tokenizer, trained and counted on the training split only."""

    def run() -> StepResult:
        terms = build_terms(recipe.lexicon)
        words = {term for term in terms if term.isalpha()}
        section = recipe.tokenizer
        read = section.base == "train" or section.num_clinical_tokens > 0
        limit = section.training_megabytes * 1_000_000
        texts = _training_texts(area, num_read, parts, limit=limit) if read else []
        tokenizer = build_tokenizer(recipe.tokenizer, texts, clinical_words=words)
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save_pretrained(folder)
            for path in sorted(Path(folder).iterdir()):
                area.put(path, f"tokenizer/{path.name}")
            lexicon = Path(folder) / "lexicon.txt"
            lexicon.write_text("\n".join(terms) + "\n", encoding="utf-8")
            area.put(lexicon, "lexicon.txt")
        return {"vocabulary_size": padded_vocabulary_size(tokenizer), "num_terms": len(terms)}

    return area.once("tools", run)


def _training_texts(area: WorkArea, num_read: list[int], parts: Parts, *, limit: int) -> list[str]:
    """Return training texts up to ``limit`` bytes, the same share of every unit, so that no source is left out."""
    texts: list[str] = []
    share = limit // max(len(num_read), 1)
    for unit, num_rows in enumerate(num_read):
        left = share
        kept = kept_rows(area, unit=unit, num_rows=num_rows, parts=parts)
        for batch in read_texts(area, unit=unit, kept=kept):
            for text, _, held_out in batch:
                size = len(text.encode())
                if not held_out and size <= left:
                    texts.append(text)
                    left -= size
            if left < share // 100:
                break
    return texts


def _plan_shards(
    area: WorkArea, recipe: CorpusRecipe, units: list[Unit], tokenised: list[StepResult], *, output_prefix: str
) -> list[dict[str, Any]]:
    """Return the arguments of one packing task a shard: units in order, a new shard once ``shard_tokens`` are reached."""
    calls = []
    for row_length in recipe.packing.sequence_lengths:
        for split in SPLITS:
            groups: list[list[int]] = []
            tokens = 0
            for unit, step in enumerate(tokenised):
                if not step["tokens"][split]:
                    continue
                if not groups or tokens >= recipe.packing.shard_tokens:
                    groups.append([])
                    tokens = 0
                groups[-1].append(unit)
                tokens += step["tokens"][split]
            for number, group in enumerate(groups):
                calls.append(
                    {
                        "area": area,
                        "units": [_shard_unit(recipe, units[unit], unit, split) for unit in group],
                        "split": split,
                        "row_length": row_length,
                        "number": number,
                        "output_prefix": output_prefix,
                    }
                )
    return calls


def _shard_unit(recipe: CorpusRecipe, unit: Unit, number: int, split: str) -> ShardUnit:
    names = [source.name for source in recipe.sources]
    source = names.index(unit.source)
    return ShardUnit(unit=number, source=source, epochs=recipe.sources[source].epochs if split == "train" else 1.0)
