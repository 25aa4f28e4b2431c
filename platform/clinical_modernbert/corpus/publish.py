"""The account of a corpus and its publication: what the passes left becomes files, card and one manifest that balances."""

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clinical_modernbert.artifacts import Artifact, FileEntry, Plan, upload, upload_folder
from clinical_modernbert.artifacts.work_area import StepResult, WorkArea
from clinical_modernbert.corpus.card import corpus_card, render_card
from clinical_modernbert.corpus.dedup.exact import Parts, kept_rows
from clinical_modernbert.corpus.documents import quarantine_name
from clinical_modernbert.corpus.split import SPLITS
from clinical_modernbert.corpus.tokens import read_texts
from clinical_modernbert.recipe import CorpusRecipe
from clinical_modernbert.sources import is_synthetic

_QUARANTINE_LISTED = 1000


def publish_corpus(
    plan: Plan[CorpusRecipe],
    area: WorkArea,
    parsed: list[StepResult],
    tokenised: list[StepResult],
    shards: list[dict[str, Any]],
    packed: list[StepResult],
    vocabulary_size: int,
    pieces: dict[int, int],
    parts: Parts,
) -> Artifact:
    """Publish what the passes left: tokenizer, lexicon, counts, shards, quarantine and card, under one balanced account."""
    recipe = plan.recipe
    files = [FileEntry.model_validate(entry) for step in packed for entry in step["files"]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tokenizer").mkdir()
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (folder / "tokenizer" / file).write_bytes(area.get(f"tokenizer/{file}", folder).read_bytes())
        files += upload_folder(plan.store, plan.prefix, folder / "tokenizer", below="tokenizer")
        files.append(upload(plan.store, plan.prefix, "lexicon.txt", area.get("lexicon.txt", folder)))
        unigram = np.zeros((len(recipe.sources), vocabulary_size), dtype=np.int64)
        for piece, step in zip(pieces, tokenised, strict=True):
            number = [source.name for source in recipe.sources].index(step["source"])
            unigram[number] += area.get_array(f"tokens/{piece:09d}.unigram.npy", folder)
        np.save(folder / "unigram.npy", unigram, allow_pickle=False)
        files.append(upload(plan.store, plan.prefix, "unigram.npy", folder / "unigram.npy"))
        listed = _collect_quarantine(area, parsed, folder / "quarantine.jsonl")
        files.append(upload(plan.store, plan.prefix, "quarantine.jsonl", folder / "quarantine.jsonl"))
    rows: dict[str, dict[str, list[int]]] = {}
    used: Counter[int] = Counter()
    for call, step in zip(shards, packed, strict=True):
        rows.setdefault(str(call["row_length"]), {split: [] for split in SPLITS})[call["split"]].append(step["rows"])
        used[call["row_length"]] += step["places_used"]
    fill = {
        length: used[int(length)] / (int(length) * sum(map(sum, by_split.values())))
        for length, by_split in rows.items()
    }
    summary = {
        "sources": {source.name: _source_summary(source.name, parsed, tokenised) for source in recipe.sources},
        "training_tokens": _training_tokens(recipe, shards, packed),
        "synthetic_sources": sorted(source.name for source in recipe.sources if is_synthetic(source)),
        "vocabulary_size": vocabulary_size,
        "rows": rows,
        "fill": fill,
        "quarantine": listed,
    }
    files += _publish_card(plan, area, recipe, summary, pieces, tokenised, parts)
    return plan.publish(files, summary=summary)


def _collect_quarantine(area: WorkArea, parsed: list[StepResult], path: Path) -> list[dict[str, Any]]:
    """Write every quarantined record to ``path``, one a line, and return the first of them for the manifest."""
    listed: list[dict[str, Any]] = []
    with path.open("w", encoding="utf-8") as out:
        for number, step in enumerate(parsed):
            if step["quarantine"]:
                for line in area.get(quarantine_name(number), path.parent).read_text(encoding="utf-8").splitlines():
                    out.write(f"{line}\n")
                    if len(listed) < _QUARANTINE_LISTED:
                        listed.append(json.loads(line))
    return listed


def _training_tokens(recipe: CorpusRecipe, shards: list[dict[str, Any]], packed: list[StepResult]) -> dict[str, int]:
    """Return the tokens of text by source that one pass over the training rows shows, epochs counted."""
    found = dict.fromkeys((source.name for source in recipe.sources), 0)
    for call, step in zip(shards, packed, strict=True):
        if call["split"] == "train" and call["row_length"] == recipe.packing.sequence_lengths[0]:
            for number, tokens in step["source_tokens"].items():
                found[recipe.sources[int(number)].name] += tokens
    return found


def _publish_card(
    plan: Plan[CorpusRecipe],
    area: WorkArea,
    recipe: CorpusRecipe,
    summary: dict[str, Any],
    pieces: dict[int, int],
    tokenised: list[StepResult],
    parts: Parts,
) -> list[FileEntry]:
    samples: dict[str, str] = {}
    for (piece, num_rows), step in zip(pieces.items(), tokenised, strict=True):
        source = step["source"]
        if source in recipe.card.public_sources and source not in samples:
            kept = kept_rows(area, piece=piece, num_rows=num_rows, parts=parts)
            first = next(read_texts(area, piece=piece, kept=kept), None)
            if first:
                samples[source] = first[0][0]
    card = corpus_card(plan.id, summary, samples=samples)
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False), encoding="utf-8")
        (Path(name) / "card.md").write_text(render_card(card), encoding="utf-8")
        return [upload(plan.store, plan.prefix, file, Path(name) / file) for file in ("card.json", "card.md")]


def _source_summary(name: str, parsed: list[StepResult], tokenised: list[StepResult]) -> dict[str, Any]:
    """Return a source's account; records = documents + drops + quarantined, exactly."""
    reading = [step for step in parsed if step["source"] == name]
    tokens = [step for step in tokenised if step["source"] == name]
    counts = sum((Counter(step["counts"]) for step in reading), Counter[str]())
    dropped = sum((Counter(drops(step)) for step in reading), Counter[str]())
    documents = {split: sum(step["documents"][split] for step in tokens) for split in SPLITS}
    for step in tokens:
        dropped.update(step["dropped"])
    account = {
        "records": counts["records"],
        "documents": documents,
        "dropped": dict(sorted(dropped.items())),
        "quarantined": counts["quarantined"],
        # Behind damage lies an unknown number of records, which are no part of the balance.
        "unread_bytes": sum(step["unread_bytes"] for step in reading),
        "tokens": {split: sum(step["tokens"][split] for step in tokens) for split in SPLITS},
        "salient_tokens": sum(step["salient_tokens"] for step in tokens),
        "languages": dict(sorted(_below(counts, "language:").items())),
        "identifiers": dict(sorted(_below(counts, "identifier:").items())),
        "documents_with_identifiers": counts["with_identifiers"],
        "length_classes": [sum(column) for column in zip(*(step["lengths"] for step in tokens), strict=True)],
        "longest_document_tokens": max((step["longest"] for step in tokens), default=0),
    }
    assert account["records"] == sum(documents.values()) + sum(dropped.values()) + account["quarantined"], name
    return account


def drops(step: StepResult) -> dict[str, int]:
    """Return the documents that a reading step dropped, by reason."""
    return _below(step["counts"], "dropped:")


def _below(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {key.removeprefix(prefix): n for key, n in counts.items() if key.startswith(prefix)}
