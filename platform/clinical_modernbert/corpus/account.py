"""The account of a corpus: for every source, records = documents + drops + quarantined, exactly; and the totals over its rows."""

import math
from collections import Counter
from collections.abc import Sequence

from clinical_modernbert.corpus import SPLITS
from clinical_modernbert.corpus.refusals import unread_records
from clinical_modernbert.corpus.results import Packed, Parsed, Tokenised, below
from clinical_modernbert.corpus.summary import Account
from clinical_modernbert.recipe import CorpusRecipe


def account_of(name: str, parsed: Sequence[Parsed], tokenised: Sequence[Tokenised]) -> Account:
    """Return the account of the source ``name``."""
    reading = [step for step in parsed if step.source == name]
    tokens = [step for step in tokenised if step.source == name]
    counts = sum((Counter(step.counts) for step in reading), Counter[str]())
    reasons = [step.dropped for step in reading] + [step.dropped for step in tokens]
    dropped = sum(map(Counter, reasons), Counter[str]())
    documents = {split: sum(step.documents[split] for step in tokens) for split in SPLITS}
    account = Account(
        records=counts["records"],
        documents=documents,
        dropped=dict(sorted(dropped.items())),
        repeated_ids=counts["repeated_ids"],
        quarantined=counts["quarantined"],
        lost=counts["lost"] + _unread(reading),
        unread_bytes=sum(step.unread_bytes for step in reading),
        tokens={split: sum(step.tokens[split] for step in tokens) for split in SPLITS},
        salient_tokens=sum(step.salient_tokens for step in tokens),
        languages=dict(sorted(below(counts, "language:").items())),
        identifiers=dict(sorted(below(counts, "identifier:").items())),
        leaking=dict(sorted(below(counts, "in:").items())),
        documents_with_identifiers=counts["with_identifiers"],
        length_classes=[sum(column) for column in zip(*(step.lengths for step in tokens), strict=True)],
        longest_document_tokens=max((step.longest for step in tokens), default=0),
    )
    assert account.records == sum(documents.values()) + sum(dropped.values()) + account.quarantined, name
    return account


def _unread(reading: Sequence[Parsed]) -> int:
    """Return about how many records follow damage; 0 where nothing was read, and so nothing is known but the bytes."""
    number = unread_records(reading)
    return round(number) if math.isfinite(number) else 0


def training_tokens(recipe: CorpusRecipe, packed: Sequence[Packed]) -> dict[str, int]:
    """Return ``Summary.training_tokens``, counted in the rows of the first length."""
    totals = dict.fromkeys((source.name for source in recipe.sources), 0)
    for step in packed:
        if step.split == "train" and step.row_length == recipe.packing.sequence_lengths[0]:
            for number, tokens in step.source_tokens.items():
                totals[recipe.sources[number].name] += tokens
    return totals


def synthetic_sources(recipe: CorpusRecipe) -> list[str]:
    """Return the names of generated sources, sorted."""
    return sorted(source.name for source in recipe.sources if source.is_synthetic)


def rows_and_fill(
    packed: Sequence[Packed],
) -> tuple[dict[str, dict[str, list[int]]], dict[str, float]]:
    """Return ``Summary.rows`` and ``Summary.fill``."""
    rows: dict[str, dict[str, list[int]]] = {}
    used: Counter[str] = Counter()
    for step in packed:
        length = str(step.row_length)
        rows.setdefault(length, {split: [] for split in SPLITS})[step.split].append(step.rows)
        used[length] += step.places_used
    fill = {
        length: used[length] / (int(length) * sum(map(sum, by_split.values()))) for length, by_split in rows.items()
    }
    return rows, fill
