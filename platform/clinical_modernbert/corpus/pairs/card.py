"""The card of a pair set: what each source gave, what was dropped and held out, and the licences of the texts."""

from collections import Counter
from collections.abc import Mapping

from clinical_modernbert.corpus.pairs.collect import Account
from clinical_modernbert.recipe.pairs import PairsRecipe


def pair_card(
    pair_set: str, recipe: PairsRecipe, accounts: Mapping[str, Account], mined: Mapping[str, int] | None
) -> str:
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
    held_out, leaks = recipe.held_out, Counter[str]()
    for account in accounts.values():
        leaks += account.leaks
    negatives = (
        [
            f"Hard negatives ({recipe.negatives.method}): {mined['negatives']:,} of {mined['pairs_with']:,} pairs; "
            f"{mined['passed_over']:,} near texts that may mean the same were passed over.",
            "",
        ]
        if mined and recipe.negatives
        else []
    )
    compared = [f"- {path}: {leaks[path]:,} pairs dropped" for path in _compared(recipe)]
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
            *negatives,
            *(["Compared with evaluation sets:", "", *compared, ""] if compared else []),
            f"Held out: {held_out.fraction:.0%} of the concepts that follow no other one (seed {held_out.seed}), the concepts of "
            "other vocabularies that refer to them, and every pair with a name of theirs.",
            "",
        ]
    )


def _compared(recipe: PairsRecipe) -> tuple[str, ...]:
    section = recipe.decontamination
    return (*section.paths, *section.id_lists) if section else ()
