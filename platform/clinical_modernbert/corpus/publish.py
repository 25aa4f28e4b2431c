"""The publication of a corpus: what the passes left becomes files, a card and one manifest with a balanced account."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.artifacts.work_area import WorkArea, from_json
from clinical_modernbert.corpus.account import account_of, rows_and_fill, synthetic_sources, training_tokens
from clinical_modernbert.corpus.card import corpus_card, render_card
from clinical_modernbert.corpus.decontamination import evaluation_sets
from clinical_modernbert.corpus.dedup.exact import kept_rows
from clinical_modernbert.corpus.documents import quarantine_name
from clinical_modernbert.corpus.piece_files import Piece
from clinical_modernbert.corpus.results import Packed, Parsed, Partitions, QuarantineEntry, Tokenised
from clinical_modernbert.corpus.summary import Summary
from clinical_modernbert.corpus.tokens import ShardGroup, read_texts, unigram_name
from clinical_modernbert.recipe import CorpusRecipe

_QUARANTINE_LISTED = 1000


@dataclass(frozen=True, slots=True)
class Built:
    """A corpus whose passes are done."""

    parsed: Sequence[Parsed]
    """One a unit."""
    pieces: Sequence[Piece]
    partitions: Partitions
    num_unchecked: int
    """Records of the bands that were not compared with all of their bucket."""
    vocabulary_size: int
    tokenised: Sequence[Tokenised]
    """One a piece."""
    groups: Sequence[ShardGroup]
    packed: Sequence[Packed]
    """One a shard, by row length, split and number; their files are in the store."""


def publish_corpus(plan: Plan[CorpusRecipe], area: WorkArea, built: Built) -> Artifact:
    """Publish the shards with tokenizer, lexicon, counts, quarantine and card, under one balanced account."""
    recipe = plan.recipe
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as scratch:
        folder = Path(name)
        (folder / "tokenizer").mkdir()
        for file in ("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json", "lexicon.txt"):
            (folder / file).write_bytes(area.get(file, Path(scratch)).read_bytes())
        np.save(folder / "unigram.npy", _unigram(recipe, area, built, Path(scratch)), allow_pickle=False)
        quarantine = _write_quarantine(area, built.parsed, folder / "quarantine.jsonl")
        rows, fill = rows_and_fill(built.packed)
        summary = Summary(
            sources={s.name: account_of(s.name, built.parsed, built.tokenised) for s in recipe.sources},
            training_tokens=training_tokens(recipe, built.packed),
            synthetic_sources=synthetic_sources(recipe),
            vocabulary_size=built.vocabulary_size,
            rows=rows,
            fill=fill,
            quarantine=quarantine,
            evaluation_sets=evaluation_sets(area, recipe.decontamination),
            near_unchecked=built.num_unchecked,
        )
        card = corpus_card(plan.id, summary, samples=_samples(recipe, area, built))
        (folder / "card.json").write_text(json.dumps(asdict(card), indent=1, ensure_ascii=False), encoding="utf-8")
        (folder / "card.md").write_text(render_card(card), encoding="utf-8")
        shards = [entry for step in built.packed for entry in step.files]
        return plan.publish_folder(folder, summary=asdict(summary), uploaded=shards)


def _unigram(recipe: CorpusRecipe, area: WorkArea, built: Built, scratch: Path) -> NDArray[np.int64]:
    """Return how often each token is in the training text of each source, [source, token]."""
    unigram = np.zeros((len(recipe.sources), built.vocabulary_size), dtype=np.int64)
    for group in built.groups:
        if group.split == "train":
            for source, counts in area.get_arrays(unigram_name(group), scratch).items():
                unigram[int(source)] += counts
    return unigram


def _write_quarantine(area: WorkArea, parsed: Sequence[Parsed], path: Path) -> list[QuarantineEntry]:
    """Write every quarantined record to ``path``, one a line, and return the first of them for the manifest."""
    listed: list[QuarantineEntry] = []
    with path.open("w", encoding="utf-8") as out, tempfile.TemporaryDirectory() as scratch:
        for number, step in enumerate(parsed):
            if step.quarantine:
                with area.get(quarantine_name(number), Path(scratch)).open(encoding="utf-8") as lines:
                    for line in lines:
                        out.write(line)
                        if len(listed) < _QUARANTINE_LISTED:
                            listed.append(from_json(line, QuarantineEntry))
    return listed


def _samples(recipe: CorpusRecipe, area: WorkArea, built: Built) -> dict[str, str]:
    """Return the first text that stays of each source that the recipe calls public."""
    samples: dict[str, str] = {}
    for piece in built.pieces:
        if piece.source in recipe.card.public_sources and piece.source not in samples:
            kept = kept_rows(area, piece=piece, partitions=built.partitions)
            first = next(read_texts(area, piece=piece.id, kept=kept), None)
            if first:
                samples[piece.source] = first[0][0]
    return samples
