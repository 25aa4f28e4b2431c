"""What a page may show of a source's account: its counts, with small ones withheld unless the source is public or generated."""

from dataclasses import dataclass

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.corpus.summary import Account, Summary

from panels.counts import shown_counts

_DROPPED = "dropped:"


@dataclass(frozen=True, slots=True)
class SourceAccount:
    """The account of one source, and the counts of its records that may be shown."""

    name: str
    account: Account
    public: bool
    """Public by the recipe, or generated: its counts are shown whole."""
    cells: dict[str, int | None]
    """Documents by split, drops as ``dropped:<reason>``, and ``quarantined``; None is withheld."""
    records: int | None
    """All of them."""

    @property
    def dropped(self) -> dict[str, int | None]:
        """Drops by reason."""
        return {cell.removeprefix(_DROPPED): n for cell, n in self.cells.items() if cell.startswith(_DROPPED)}

    @property
    def leaking(self) -> dict[str, int | None]:
        """Documents dropped for each evaluation set; all are withheld where their sum in ``dropped`` is."""
        cells, _ = shown_counts(self.account.leaking, public=self.public)
        sums = [self.dropped.get(reason, 0) for reason in ("contaminated", "listed")]
        return dict.fromkeys(cells) if None in sums else cells


def corpus_accounts(corpus: Artifact, summary: Summary) -> list[SourceAccount]:
    """Return the accounts of a corpus in the order of its recipe."""
    public = public_sources(corpus, summary)
    return [_shown(name, account, public=name in public) for name, account in summary.sources.items()]


def public_sources(corpus: Artifact, summary: Summary) -> set[str]:
    """Return the sources whose counts may be shown whole: public by the recipe, or generated."""
    named = corpus.manifest.recipe.get("card", {}).get("public_sources", [])
    return {*named, *summary.synthetic_sources}


def _shown(name: str, account: Account, *, public: bool) -> SourceAccount:
    # Documents, drops and quarantined records add up to the records, so they are withheld as one partition.
    dropped = {f"{_DROPPED}{reason}": count for reason, count in account.dropped.items()}
    balance = {**account.documents, **dropped, "quarantined": account.quarantined}
    cells, records = shown_counts(balance, public=public)
    return SourceAccount(name, account, public, cells, records)
