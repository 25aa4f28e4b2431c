"""The card of a pair set: what each source gave, what was dropped and held out, and the licences of the texts."""

from collections import Counter
from collections.abc import Mapping

from clinical_modernbert.corpus.pairs.collect import Account
from clinical_modernbert.recipe.pairs import PairsRecipe


def pair_card(
    pair_set: str,
    recipe: PairsRecipe,
    accounts: Mapping[str, Account],
    mined: Mapping[str, int] | None,
    compared: Mapping[str, int],
) -> str:
    """Return the card as Markdown; ``compared`` has the number of texts of each evaluation set."""
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
    drops = [f"- {path}: {number:,} texts or ids, {leaks[path]:,} pairs dropped" for path, number in compared.items()]
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
            *(["Compared with evaluation sets:", "", *drops, ""] if drops else []),
            f"Held out: {held_out.fraction:.0%} of the concepts that follow no other one (seed {held_out.seed}), the concepts of "
            "other vocabularies that refer to them, and every pair with a name of theirs.",
            "",
        ]
    )
