"""Build a corpus with Ray Data: passes of one task a unit, piece, partition or shard; the driver holds paths and counts only.

parse -> versions, exact and near duplicates by hash partition -> tokenise -> pack; tokenizer and lexicon are one task, which runs
beside the parsing where it needs no text. Every task
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
from clinical_modernbert.artifacts.work_area import StepResult, WorkArea
from clinical_modernbert.corpus.dedup.exact import (
    Parts,
    find_duplicates,
    find_near_duplicates,
    kept_rows,
    resolve_versions,
)
from clinical_modernbert.corpus.dedup.shingles import evaluation_ngrams
from clinical_modernbert.corpus.documents import parse_unit
from clinical_modernbert.corpus.piece_files import PIECES_A_UNIT
from clinical_modernbert.corpus.publish import drops, publish_corpus
from clinical_modernbert.corpus.split import SPLITS
from clinical_modernbert.corpus.tokens import ShardPiece, pack_shard, read_texts, tokenise_piece
from clinical_modernbert.errors import CorpusError, UserError
from clinical_modernbert.lexicon import build_terms
from clinical_modernbert.recipe import CorpusRecipe
from clinical_modernbert.runtime import start_ray, user_error
from clinical_modernbert.sources import list_units
from clinical_modernbert.sources.document import Unit
from clinical_modernbert.tokenizer import build_tokenizer, padded_vocabulary_size

_DOCUMENTS_A_PART = 2_000_000
_INPUT_A_BANDS_PART = 128_000_000
"""Bytes of raw files whose MinHash bands make one partition: of PubMed's compressed files about 7 million records of 36 bytes."""
_GENERATED_BYTES = 2000


def build_corpus(plan: Plan[CorpusRecipe]) -> Artifact:
    """Build the corpus that ``plan`` describes and publish it; a build that is refused leaves nothing behind."""
    recipe = plan.recipe
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


def _clear_published(plan: Plan[CorpusRecipe]) -> None:
    """Clear the areas of corpora that were published: a kill between the manifest and the end leaves one."""
    top = work_prefix("corpus", "")
    names = {item.key.removeprefix(top).lstrip("/").partition("/")[0] for item in plan.store.walk(top)}
    for name in sorted(names - {""}):
        if find_artifact(plan.store, "corpus", name):
            WorkArea(plan.store.uri, work_prefix("corpus", name)).clear()


def _build(plan: Plan[CorpusRecipe], recipe: CorpusRecipe, area: WorkArea) -> Artifact:
    units = [unit for source in recipe.sources for unit in list_units(source)]
    near_parts = 1 + sum(map(_raw_bytes, units)) // _INPUT_A_BANDS_PART

    if recipe.decontamination.paths:
        ray.get(ray.remote(num_cpus=1)(_prepare_evaluation).remote(area, recipe.decontamination.paths))
    # Asks for no CPU: it must not keep a file waiting.
    prepare_tools = ray.remote(num_cpus=0)(_prepare_tools)
    tools = None if _trains_tokenizer(recipe) else prepare_tools.remote(area, recipe, {}, {})
    try:
        parsed = _each(
            "parse",
            recipe,
            [
                {"area": area, "recipe": recipe, "unit": unit, "number": n, "num_bands_parts": near_parts}
                for n, unit in enumerate(units)
            ],
            parse_unit,
        )
        _refuse_bad_input(recipe, parsed)
    finally:
        if tools is not None:
            ray.wait([tools])  # nothing may write to an area that a refusal is about to clear
    pieces = {
        number * PIECES_A_UNIT + n: rows for number, step in enumerate(parsed) for n, rows in enumerate(step["pieces"])
    }
    parts = _deduplicate(area, recipe, list(pieces), sum(pieces.values()), near_parts=near_parts)
    if tools is None:
        tools = prepare_tools.remote(area, recipe, pieces, parts)
    vocabulary_size = ray.get(tools)["vocabulary_size"]
    tokenised = _each(
        "tokenise",
        recipe,
        [
            {
                "area": area,
                "piece": piece,
                "source": units[piece // PIECES_A_UNIT].source,
                "num_rows": rows,
                "parts": parts,
            }
            for piece, rows in pieces.items()
        ],
        tokenise_piece,
    )
    shards = _plan_shards(area, recipe, pieces, tokenised, output_prefix=plan.prefix)
    packed = _each("pack", recipe, shards, pack_shard)
    return publish_corpus(plan, area, parsed, tokenised, shards, packed, vocabulary_size, pieces, parts)


def _raw_bytes(unit: Unit) -> int:
    """Return about how much a unit holds, from which follows into how many partitions the bands go."""
    if unit.num_records is not None:
        return unit.num_records * _GENERATED_BYTES
    location = Path(unit.location)
    files = location.rglob("*") if location.is_dir() else [location]
    return sum(file.stat().st_size for file in files if file.is_file())


def _deduplicate(area: WorkArea, recipe: CorpusRecipe, pieces: list[int], num_read: int, *, near_parts: int) -> Parts:
    """Run the passes that decide which documents stay, each over what the one before kept."""
    parts: Parts = {}
    num_parts = 1 + num_read // _DOCUMENTS_A_PART
    calls: list[dict[str, Any]] = [
        {"area": area, "pieces": pieces, "part": part, "num_parts": num_parts} for part in range(num_parts)
    ]
    _each("versions", recipe, calls, resolve_versions)
    parts["versions"] = num_parts
    calls = [{**call, "earlier": dict(parts)} for call in calls]
    _each("duplicates", recipe, calls, find_duplicates)
    parts["duplicates"] = num_parts
    if recipe.dedup.near:
        calls = [{"area": area, "pieces": pieces, "part": part, "earlier": dict(parts)} for part in range(near_parts)]
        _each("near", recipe, calls, find_near_duplicates)
        parts["near"] = near_parts
    return parts


def _prepare_evaluation(area: WorkArea, paths: tuple[str, ...]) -> StepResult:
    """Write the 13-word sequences of the evaluation sets."""
    from clinical_modernbert.sources.evaluation_sets import evaluation_texts

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


def _trains_tokenizer(recipe: CorpusRecipe) -> bool:
    return recipe.tokenizer.base == "train" or recipe.tokenizer.num_clinical_tokens > 0


def _prepare_tools(area: WorkArea, recipe: CorpusRecipe, pieces: dict[int, int], parts: Parts) -> StepResult:
    """Write the lexicon's terms and the tokenizer, trained and counted on the training split only."""

    def run() -> StepResult:
        terms = build_terms(recipe.lexicon)
        words = {term for term in terms if term.isalpha()}
        limit = recipe.tokenizer.training_megabytes * 1_000_000
        texts = _training_texts(area, pieces, parts, limit=limit) if _trains_tokenizer(recipe) else []
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


def _training_texts(area: WorkArea, pieces: dict[int, int], parts: Parts, *, limit: int) -> list[str]:
    """Return training texts up to ``limit`` bytes, the same share of every piece, so that no source is left out."""
    texts: list[str] = []
    share = limit // max(len(pieces), 1)
    for piece, num_rows in pieces.items():
        left = share
        kept = kept_rows(area, piece=piece, num_rows=num_rows, parts=parts)
        for batch in read_texts(area, piece=piece, kept=kept):
            for text, _, held_out in batch:
                size = len(text.encode())
                if not held_out and size <= left:
                    texts.append(text)
                    left -= size
            if left < share // 100:
                break
    return texts


def _plan_shards(
    area: WorkArea, recipe: CorpusRecipe, pieces: dict[int, int], tokenised: list[StepResult], *, output_prefix: str
) -> list[dict[str, Any]]:
    """Return the arguments of one packing task a shard: pieces in order, a new shard once ``shard_tokens`` are reached."""
    calls = []
    for row_length in recipe.packing.sequence_lengths:
        for split in SPLITS:
            groups: list[list[ShardPiece]] = []
            tokens = 0
            for piece, step in zip(pieces, tokenised, strict=True):
                if not step["tokens"][split]:
                    continue
                if not groups or tokens >= recipe.packing.shard_tokens:
                    groups.append([])
                    tokens = 0
                groups[-1].append(_shard_piece(recipe, piece, step["source"], split))
                tokens += step["tokens"][split]
            for number, group in enumerate(groups):
                calls.append(
                    {
                        "area": area,
                        "pieces": group,
                        "split": split,
                        "row_length": row_length,
                        "number": number,
                        "output_prefix": output_prefix,
                    }
                )
    return calls


def _shard_piece(recipe: CorpusRecipe, piece: int, source: str, split: str) -> ShardPiece:
    number = [section.name for section in recipe.sources].index(source)
    return ShardPiece(piece=piece, source=number, epochs=recipe.sources[number].epochs if split == "train" else 1.0)
