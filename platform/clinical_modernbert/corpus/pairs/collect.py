"""The records of one source after the other: which become pairs, and why the others do not."""

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.corpus.pairs.contamination import Contamination
from clinical_modernbert.corpus.pairs.sources import licence_of, read_source, text_of
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.pairs import PairSource, PairsRecipe
from clinical_modernbert.sources.document import Dropped, Quarantined
from clinical_modernbert.sources.terms import Follows, IsA, Term, TermPair, text_key


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
    leaks: Counter[str] = field(default_factory=Counter)
    """By evaluation set, the pairs that it made drop."""
    licence: str | None = None
    """The usual licence of the source's type."""

    def to_json(self) -> dict[str, Any]:
        """Return the account as the manifest holds it."""
        # Not dataclasses.asdict: it copies a Counter of counts into a Counter of pairs.
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}


@dataclass(slots=True)
class Collected:
    """Everything read so far."""

    pairs: list[TermPair] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    """Name of the source of each pair."""
    follows: dict[Follows, None] = field(default_factory=dict)
    """Distinct, in the order in which they were read."""
    parents: dict[str, set[str]] = field(default_factory=dict)
    """Concept -> the concepts above it in its ontology."""
    terms: dict[Term, None] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)


def collect(
    source: PairSource, recipe: PairsRecipe, collected: Collected, *, corpus: Artifact | None, evaluation: Contamination
) -> Account:
    """Add the pairs of a source to ``collected``; ``SourceError`` where too many of its records cannot be read."""
    account = Account(licence=licence_of(source, corpus), texts=text_of(source, corpus))
    shown: list[str] = []
    for record in read_source(source, corpus):
        if isinstance(record, Follows):
            collected.follows[record] = None
            continue
        if isinstance(record, IsA):
            collected.parents.setdefault(record.child, set()).add(record.parent)
            continue
        account.records += 1
        if isinstance(record, Quarantined):
            account.quarantined += 1
            shown = [*shown, f"{record.file} {record.position}: {record.reason}"][:5]
        elif isinstance(record, TermPair):
            terms = (record.anchor, record.positive)
            collected.terms |= {term: None for term in terms if term.prose is None}
            leak = evaluation.leak(record)
            account.leaks.update(leak.paths if leak else ())
            reason = leak.reason if leak else _refusal(record, recipe, collected)
            if reason:
                account.dropped[reason] += 1
                continue
            collected.pairs.append(record)
            collected.sources.append(source.name)
            account.relations[record.relation] += 1
            account.cut += (record.anchor.prose == "cut") + (record.positive.prose == "cut")
        elif isinstance(record, Dropped):
            account.dropped[record.reason] += 1
    if account.quarantined > recipe.max_quarantined_fraction * account.records:
        raise SourceError(
            f"sources[{source.name}]: {account.quarantined} of {account.records} records had to be quarantined, more than "
            f"max_quarantined_fraction={recipe.max_quarantined_fraction} allows: {'; '.join(shown)}"
        )
    return account


def _refusal(pair: TermPair, recipe: PairsRecipe, collected: Collected) -> str | None:
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
