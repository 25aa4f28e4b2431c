"""Build a pair set: read every source, drop what cannot train, split by concept, publish.

``pairs.parquet`` has the pairs with their split, ``terms.parquet`` every name of every concept (also of dropped pairs, without
texts of documents), ``links.parquet`` which concept is held out with which.

The driver does it alone and in memory, because vocabularies are small next to corpora: 150,000 pairs take seconds. A UMLS release
of millions of names takes gigabytes; ``vocabularies`` of its source limits them, and ``max_pairs`` the pairs of documents.
"""

import logging
import tempfile
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clinical_modernbert.artifacts import Artifact, InputEntry, Plan
from clinical_modernbert.artifacts.remote_files import is_remote, local_copy
from clinical_modernbert.corpus import SPLITS
from clinical_modernbert.corpus.pairs.card import pair_card
from clinical_modernbert.corpus.pairs.sources import licence_of, read_source, source_files, text_of
from clinical_modernbert.corpus.pairs.split import held_out_pairs
from clinical_modernbert.errors import RecipeError, SourceError
from clinical_modernbert.hashing import file_sha256
from clinical_modernbert.recipe.corpus import CorpusRecipe
from clinical_modernbert.recipe.pairs import PairSource, PairsRecipe
from clinical_modernbert.sources.document import Dropped, Quarantined
from clinical_modernbert.sources.terms import Follows, Term, TermPair, text_key

PAIRS_NAME, TERMS_NAME, LINKS_NAME = "pairs.parquet", "terms.parquet", "links.parquet"
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Account:
    """What became of the records of one source: records = pairs of both splits + drops + quarantined."""

    records: int = 0
    pairs: Counter[str] = field(default_factory=Counter)
    """By split."""
    relations: Counter[str] = field(default_factory=Counter)
    """By relation, both splits together."""
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason."""
    quarantined: int = 0
    cut: int = 0
    """Texts of documents that were cut at the source's ``max_characters``, in pairs of both splits."""
    texts: str | None = None
    """Whose documents' text the pairs hold; None for names of concepts."""
    licence: str | None = None
    """The usual licence of the source's type."""

    def to_json(self) -> dict[str, Any]:
        """Return the account as the manifest holds it."""
        # Not dataclasses.asdict: it copies a Counter of counts into a Counter of pairs.
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}


@dataclass(slots=True)
class _Collected:
    """Everything read so far."""

    pairs: list[TermPair] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    """Name of the source of each pair."""
    follows: dict[Follows, None] = field(default_factory=dict)
    """Distinct, in the order in which they were read."""
    terms: dict[Term, None] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)


def pair_inputs(recipe: PairsRecipe) -> tuple[InputEntry, ...]:
    """Return the files of every source with their digests."""
    files = [(source.name, file) for source in _local_sources(recipe) for file in source_files(source)]
    return tuple(InputEntry(name=f"{name}/{file.name}", id=name, digest=file_sha256(file)) for name, file in files)


def _local_sources(recipe: PairsRecipe) -> list[PairSource]:
    """Return the sources with local paths: files in S3 are copied to this machine until the process ends."""
    return [
        source.model_copy(update={field: _local(source, field, path) for field, path in source.paths.items()})
        for source in recipe.located_sources
    ]


def _local(source: PairSource, field: str, path: str) -> str:
    local = local_copy(path)
    if is_remote(path) and not local.is_file():
        raise SourceError(f"sources[{source.name}].{field}: {path!r} is not an object")
    return str(local)


def build_pairs(plan: Plan[PairsRecipe]) -> Artifact:
    """Read, split and publish; raises ``SourceError`` where a source cannot be read or has no pair."""
    recipe, collected = plan.recipe, _Collected()
    corpus = plan.artifacts.get("corpus")
    if corpus is not None:
        _check_held_out(recipe, corpus)
    accounts = {source.name: _collect(source, recipe, collected, corpus) for source in _local_sources(recipe)}
    held_out = held_out_pairs(collected.pairs, collected.follows, recipe.held_out)
    splits = [SPLITS[is_out] for is_out in held_out]
    for name, split in zip(collected.sources, splits, strict=True):
        accounts[name].pairs[split] += 1
    for name, account in accounts.items():
        assert account.records == account.pairs.total() + account.dropped.total() + account.quarantined, name
        _logger.info("source %s: %s pairs, dropped %s", name, dict(account.pairs), dict(account.dropped))
        if not account.pairs["train"]:
            raise SourceError(f"sources[{name}]: no pair to train on; dropped were {dict(account.dropped)}")
    summary = {
        "sources": {name: account.to_json() for name, account in accounts.items()},
        "pairs": dict(Counter(splits)),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(_table(collected, splits), folder / PAIRS_NAME, compression="zstd")
        terms, links = list(collected.terms), list(collected.follows)
        pq.write_table(
            pa.table({"concept": [term.lineage[0] for term in terms], "text": [term.text for term in terms]}),
            folder / TERMS_NAME,
            compression="zstd",
        )
        pq.write_table(
            pa.table({"follower": [link.follower for link in links], "leader": [link.leader for link in links]}),
            folder / LINKS_NAME,
            compression="zstd",
        )
        (folder / "README.md").write_text(pair_card(plan.id, recipe, accounts), encoding="utf-8")
        return plan.publish_folder(folder, summary=summary)


def _check_held_out(recipe: PairsRecipe, corpus: Artifact) -> None:
    """Raise ``RecipeError`` if the pairs could hold what the corpus holds out."""
    ours, theirs = recipe.held_out, CorpusRecipe.model_validate(corpus.manifest.recipe).held_out
    if ours.seed != theirs.seed or ours.fraction < theirs.fraction:
        raise RecipeError(
            f"held_out: seed={ours.seed} and fraction={ours.fraction:g} leave in what {corpus.manifest.id} holds out; take its "
            f"seed={theirs.seed}, and a fraction of at least {theirs.fraction:g}"
        )


def _collect(source: PairSource, recipe: PairsRecipe, collected: _Collected, corpus: Artifact | None) -> Account:
    account = Account(licence=licence_of(source, corpus), texts=text_of(source, corpus))
    shown: list[str] = []
    for record in read_source(source, corpus):
        if isinstance(record, Follows):
            collected.follows[record] = None
            continue
        account.records += 1
        if isinstance(record, Quarantined):
            account.quarantined += 1
            shown = [*shown, f"{record.file} {record.position}: {record.reason}"][:5]
            continue
        if isinstance(record, TermPair):
            terms = (record.anchor, record.positive)
            collected.terms |= {term: None for term in terms if term.prose is None}
        reason = record.reason if isinstance(record, Dropped) else _refusal(record, recipe, collected)
        if reason:
            account.dropped[reason] += 1
        elif isinstance(record, TermPair):
            collected.pairs.append(record)
            collected.sources.append(source.name)
            account.relations[record.relation] += 1
            account.cut += (record.anchor.prose == "cut") + (record.positive.prose == "cut")
    if account.quarantined > recipe.max_quarantined_fraction * account.records:
        raise SourceError(
            f"sources[{source.name}]: {account.quarantined} of {account.records} records had to be quarantined, more than "
            f"max_quarantined_fraction={recipe.max_quarantined_fraction} allows: {'; '.join(shown)}"
        )
    return account


def _refusal(pair: TermPair, recipe: PairsRecipe, collected: _Collected) -> str | None:
    """Return why a pair is left out; of two equal pairs in either direction the first stays."""
    first, second = text_key(pair.anchor.text), text_key(pair.positive.text)
    if not first or not second:
        return "empty"
    if first == second:
        return "same_text"
    if any(len(term.text) > recipe.max_characters for term in (pair.anchor, pair.positive) if term.prose is None):
        return "too_long"
    key = (min(first, second), max(first, second))
    if key in collected.seen:
        return "duplicate"
    collected.seen.add(key)
    return None


def _table(collected: _Collected, splits: list[str]) -> pa.Table:
    pairs, lineage = collected.pairs, pa.list_(pa.string())
    return pa.table(
        {
            "source": pa.array(collected.sources).dictionary_encode(),
            "relation": pa.array([pair.relation for pair in pairs]).dictionary_encode(),
            "anchor": [pair.anchor.text for pair in pairs],
            "positive": [pair.positive.text for pair in pairs],
            "anchor_lineage": pa.array([pair.anchor.lineage for pair in pairs], lineage),
            "positive_lineage": pa.array([pair.positive.lineage for pair in pairs], lineage),
            "negatives": pa.array([()] * len(pairs), pa.list_(pa.string())),
            "negative_lineages": pa.array([()] * len(pairs), pa.list_(lineage)),
            "split": pa.array(splits).dictionary_encode(),
        }
    )
