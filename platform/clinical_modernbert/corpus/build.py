"""Build a corpus with Ray Data: passes of one task a unit, piece, partition or shard; the driver holds paths and counts only.

    parse -> versions, exact duplicates, near duplicates -> tokenise -> pack -> publish

Tokenizer and lexicon are one more task; it runs next to the parsing where it needs no text, else after tasks that draw its
texts. Every task leaves its files and then its result in the work area, so that a killed build continues with the tasks that are
not done. Tasks are pure functions of their arguments: the shards are byte-equal whatever the number of workers.
"""

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import ray

from clinical_modernbert.artifacts import Artifact, Plan, find_artifact
from clinical_modernbert.artifacts.layout import work_prefix
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus import SPLITS
from clinical_modernbert.corpus.checks import check_recipe
from clinical_modernbert.corpus.decontamination import prepare_ngrams
from clinical_modernbert.corpus.dedup.exact import (
    find_duplicates,
    find_near_duplicates,
    join_tables,
    merge_drops,
    resolve_versions,
)
from clinical_modernbert.corpus.documents import parse_unit
from clinical_modernbert.corpus.piece_files import Piece, PieceId
from clinical_modernbert.corpus.publish import Built, publish_corpus
from clinical_modernbert.corpus.refusals import cleared_at_the_end, refuse_bad_input
from clinical_modernbert.corpus.results import (
    Dropped,
    Packed,
    PackedGroup,
    Parsed,
    Partitions,
    Sampled,
    Tokenised,
    Vocabulary,
)
from clinical_modernbert.corpus.tokens import ShardGroup, ShardSegment, pack_group, tokenise_piece
from clinical_modernbert.corpus.training_texts import draw_texts, drawn_texts
from clinical_modernbert.lexicon import build_terms
from clinical_modernbert.recipe import CorpusRecipe
from clinical_modernbert.runtime import each_call, result_of, start_ray
from clinical_modernbert.sources import list_units
from clinical_modernbert.sources.document import Unit
from clinical_modernbert.tokenizer import build_tokenizer, load_base, padded_vocabulary_size, save_tokenizer

_RECORDS_A_PARTITION = 8_000_000
"""Records whose keys one task sorts, those that a rule dropped included, and whose hashes: 300 MB."""
_INPUT_A_BANDS_PARTITION = 128_000_000
"""Bytes of raw files whose MinHash bands make one partition: of PubMed's compressed files about 7 million records of 36 bytes."""
_GROUPS = 16
"""Groups of pieces whose tables are joined to one file a partition, where there are several partitions, and whose texts one task
draws."""
_GENERATED_BYTES = 2000


def build_corpus(plan: Plan[CorpusRecipe]) -> Artifact:
    """Build the corpus that ``plan`` describes and publish it.

    A build that is refused leaves nothing in the store; after any other error the next run continues.
    """
    area = WorkArea(plan.store.uri, work_prefix("corpus", plan.id))
    check_recipe(plan.recipe)
    start_ray(num_cpus=plan.recipe.scaling.num_cpus)
    _clear_published(plan)
    with cleared_at_the_end(area):
        return _build(plan, area)


def _clear_published(plan: Plan[CorpusRecipe]) -> None:
    """Clear the areas of corpora that were published: a kill between the manifest and the end leaves one."""
    top = work_prefix("corpus", "")
    names = {item.key.removeprefix(top).lstrip("/").partition("/")[0] for item in plan.store.walk(top)}
    for name in sorted(names - {""}):
        if find_artifact(plan.store, "corpus", name):
            WorkArea(plan.store.uri, work_prefix("corpus", name)).clear()


def _build(plan: Plan[CorpusRecipe], area: WorkArea) -> Artifact:
    recipe, num_cpus = plan.recipe, plan.recipe.scaling.num_cpus
    units = [unit for source in recipe.sources for unit in list_units(source)]
    near = 1 + sum(map(_raw_bytes, units)) // _INPUT_A_BANDS_PARTITION

    if recipe.decontamination.paths:
        result_of(ray.remote(num_cpus=1)(prepare_ngrams).remote(area, recipe.decontamination))
    if recipe.tokenizer.base != "train":
        result_of(ray.remote(num_cpus=0)(_check_base).remote(recipe.tokenizer.base))
    # Takes no CPU: it must not keep a file waiting.
    prepare_tools = ray.remote(num_cpus=0)(_prepare_tools)
    tools = None if _trains_tokenizer(recipe) else prepare_tools.remote(area, recipe, 0)
    try:
        parse = [
            partial(parse_unit, area, recipe, unit, number=n, num_bands_partitions=near) for n, unit in enumerate(units)
        ]
        parsed = each_call("parse", parse, Parsed, concurrency=num_cpus)
        refuse_bad_input(recipe, parsed)
    finally:
        if tools is not None:
            ray.wait([tools])  # nothing may write to an area that a refusal is about to clear
    pieces = [
        Piece(PieceId(unit, number), step.source, rows)
        for unit, step in enumerate(parsed)
        for number, rows in enumerate(step.pieces)
    ]
    num_records = sum(step.count("records") for step in parsed)
    partitions, num_unchecked = _deduplicate(area, recipe, pieces, num_records=num_records, num_near=near)
    if tools is None:
        tools = prepare_tools.remote(area, recipe, _draw_texts(area, recipe, pieces, partitions))
    vocabulary: Vocabulary = result_of(tools)
    tokenise = [partial(tokenise_piece, area, piece, partitions=partitions) for piece in pieces]
    tokenised = each_call("tokenise", tokenise, Tokenised, concurrency=num_cpus)
    groups, lengths = _plan_shards(recipe, pieces, tokenised), recipe.packing.sequence_lengths
    pack = [partial(pack_group, area, group, row_lengths=lengths, output_prefix=plan.prefix) for group in groups]
    packed = _shards(each_call("pack", pack, PackedGroup, concurrency=num_cpus))
    built = Built(parsed, pieces, partitions, num_unchecked, vocabulary.vocabulary_size, tokenised, groups, packed)
    return publish_corpus(plan, area, built)


def _raw_bytes(unit: Unit) -> int:
    """Return about how much a unit holds; the number of partitions of the bands follows from it."""
    if unit.num_records is not None:
        return unit.num_records * _GENERATED_BYTES
    if unit.size_bytes:
        return unit.size_bytes
    location = Path(unit.location)
    files = location.rglob("*") if location.is_dir() else [location]
    return sum(file.stat().st_size for file in files if file.is_file())


def _deduplicate(
    area: WorkArea, recipe: CorpusRecipe, pieces: Sequence[Piece], *, num_records: int, num_near: int
) -> tuple[Partitions, int]:
    """Run the passes that decide which documents stay, each over what the pass before it kept.

    Returns where the drops are, and the number of records in buckets too large to be compared as a whole.
    """
    num_cpus = recipe.scaling.num_cpus
    number = 1 + num_records // _RECORDS_A_PARTITION
    num_partitions = {"keys": number, "hashes": number} | ({"bands": num_near} if recipe.dedup.near else {})
    names = _join_tables(area, [piece.id for piece in pieces], num_partitions, num_cpus=num_cpus)
    versions = [partial(resolve_versions, area, names=names["keys"][n], partition=n) for n in range(number)]
    each_call("versions", versions, Dropped, concurrency=num_cpus)
    done = Partitions(versions=number)
    duplicates = [
        partial(find_duplicates, area, names=names["hashes"][n], partition=n, earlier=done) for n in range(number)
    ]
    each_call("duplicates", duplicates, Dropped, concurrency=num_cpus)
    done = Partitions(versions=number, duplicates=number)
    near: list[Dropped] = []
    if recipe.dedup.near:
        tasks = [
            partial(find_near_duplicates, area, names=names["bands"][n], partition=n, earlier=done)
            for n in range(num_near)
        ]
        near = each_call("near", tasks, Dropped, concurrency=num_cpus)
        done = Partitions(versions=number, duplicates=number, near=num_near)
    each_call("merge", [partial(merge_drops, area, partitions=done)], Dropped, concurrency=num_cpus)
    return Partitions(merged=1), sum(step.unchecked for step in near)


def _join_tables(
    area: WorkArea, pieces: Sequence[PieceId], num_partitions: Mapping[str, int], *, num_cpus: int | None
) -> dict[str, list[list[str]]]:
    """Return the files of each partition of each table, joined by groups of pieces where there are several partitions."""
    groups = [pieces[n::_GROUPS] for n in range(min(_GROUPS, len(pieces)))]
    if max(num_partitions.values()) > 1:
        join = [
            partial(join_tables, area, pieces=ids, group=n, num_partitions=num_partitions)
            for n, ids in enumerate(groups)
        ]
        each_call("join", join, Dropped, concurrency=num_cpus)
    return {
        table: [[f"{table}/{n:04d}/{group:04d}.npy" for group in range(len(groups))] for n in range(number)]
        if number > 1
        else [[f"{table}/{piece}.npy" for piece in pieces]]
        for table, number in num_partitions.items()
    }


def _trains_tokenizer(recipe: CorpusRecipe) -> bool:
    return recipe.tokenizer.base == "train" or recipe.tokenizer.num_clinical_tokens > 0


def _check_base(base: str) -> None:
    """Load the base tokenizer in a task, before the hours of parsing; the task that needs it finds it in the cache."""
    load_base(base)


def _draw_texts(area: WorkArea, recipe: CorpusRecipe, pieces: Sequence[Piece], partitions: Partitions) -> int:
    """Draw the tokenizer's training texts, one task a group of pieces; return the number of groups."""
    share = recipe.tokenizer.training_megabytes * 1_000_000 // max(len(pieces), 1)
    size = -(-len(pieces) // _GROUPS)  # neighbours, so that the texts of all groups are in the order of the pieces
    draw = [
        partial(draw_texts, area, pieces=pieces[first : first + size], group=n, partitions=partitions, share=share)
        for n, first in enumerate(range(0, len(pieces), max(size, 1)))
    ]
    each_call("draw", draw, Sampled, concurrency=recipe.scaling.num_cpus)
    return len(draw)


def _prepare_tools(area: WorkArea, recipe: CorpusRecipe, num_groups: int) -> Vocabulary:
    """Write the lexicon's terms and the tokenizer, trained and counted on the texts that were drawn."""

    def run() -> Vocabulary:
        terms = build_terms(recipe.lexicon)
        words = {term for term in terms if term.isalpha() and term.islower()}
        tokenizer = build_tokenizer(recipe.tokenizer, drawn_texts(area, num_groups), clinical_words=words)
        with tempfile.TemporaryDirectory() as folder:
            save_tokenizer(tokenizer, Path(folder))
            for path in sorted(Path(folder).iterdir()):
                area.put(path, f"tokenizer/{path.name}")
            lexicon = Path(folder) / "lexicon.txt"
            lexicon.write_text("\n".join(terms) + "\n", encoding="utf-8")
            area.put(lexicon, "lexicon.txt")
        return Vocabulary(vocabulary_size=padded_vocabulary_size(tokenizer), num_terms=len(terms))

    return area.once("tools", run, Vocabulary)


def _plan_shards(recipe: CorpusRecipe, pieces: Sequence[Piece], tokenised: Sequence[Tokenised]) -> list[ShardGroup]:
    """Return the groups of pieces of each split, in order: a new one once ``shard_tokens`` are reached."""
    planned = []
    for split in SPLITS:
        groups: list[list[ShardSegment]] = []
        tokens = 0
        for piece, step in zip(pieces, tokenised, strict=True):
            if not step.tokens[split]:
                continue
            if not groups or tokens >= recipe.packing.shard_tokens:
                groups.append([])
                tokens = 0
            groups[-1].append(_shard_segment(recipe, piece, split))
            tokens += step.tokens[split]
        planned += [ShardGroup(split, number, tuple(group)) for number, group in enumerate(groups)]
    return planned


def _shards(packed: Sequence[PackedGroup]) -> list[Packed]:
    """Return the shards of all groups, by row length."""
    return [shard for of_length in zip(*(group.shards for group in packed), strict=True) for shard in of_length]


def _shard_segment(recipe: CorpusRecipe, piece: Piece, split: str) -> ShardSegment:
    number = [section.name for section in recipe.sources].index(piece.source)
    epochs = recipe.sources[number].epochs if split == "train" else 1.0
    return ShardSegment(piece=piece.id, source=number, epochs=epochs)
