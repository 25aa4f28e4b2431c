"""The card of a pair set: what each source gave, what was dropped and held out, and the licences of the texts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from clinical_modernbert.recipe.pairs import PairsRecipe

if TYPE_CHECKING:  # build.py imports this module
    from clinical_modernbert.corpus.pairs.build import Account


def pair_card(pair_set: str, recipe: PairsRecipe, accounts: "Mapping[str, Account]") -> str:
    """Return the card as Markdown."""
    rows = [
        f"| {name} | {account.records:,} | {account.pairs['train']:,} | {account.pairs['held_out']:,} "
        f"| {', '.join(f'{reason} {n:,}' for reason, n in account.dropped.items()) or 'none'} "
        f"| {account.quarantined:,} | {account.licence or 'of your files'} |"
        for name, account in accounts.items()
    ]
    texts = [
        f"- {name}: {account.texts}" + (f"; {account.cut:,} texts were cut at its limit" if account.cut else "")
        for name, account in accounts.items()
        if account.texts
    ]
    held_out = recipe.held_out
    return "\n".join(
        [
            f"# {pair_set}",
            "",
            "Pairs of terms or texts that mean the same, or of which the second is the more general, for contrastive training.",
            "",
            "| source | records | train | held out | dropped | quarantined | licence |",
            "|---|--:|--:|--:|---|--:|---|",
            *rows,
            "",
            *(
                ["**It holds texts of documents.** Keep it where these documents may be kept.", "", *texts, ""]
                if texts
                else []
            ),
            f"Held out: {held_out.fraction:.0%} of the concepts that follow no other one (seed {held_out.seed}), the concepts of "
            "other vocabularies that refer to them, and every pair with a name of theirs.",
            "",
        ]
    )
