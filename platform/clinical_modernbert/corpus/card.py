"""The corpus card: what a corpus holds, for a reader who has not seen it; text only from sources that the recipe calls public."""

from typing import Any

_SAMPLE_CHARACTERS = 600


def corpus_card(name: str, summary: dict[str, Any], *, samples: dict[str, str]) -> dict[str, Any]:
    """Return the card of a corpus by its manifest's summary; ``samples`` is one text by public source."""
    sources = {}
    for source, account in summary["sources"].items():
        tokens = sum(account["tokens"].values())
        sources[source] = {
            **account,
            "salient_share": account["salient_tokens"] / tokens if tokens else 0.0,
            "training_tokens_with_epochs": summary["training_tokens"][source],
            "synthetic": source in summary["synthetic_sources"],
        }
    return {
        "name": name,
        "sources": sources,
        "training_tokens": sum(summary["training_tokens"].values()),
        "vocabulary_size": summary["vocabulary_size"],
        "rows": {
            length: {split: sum(counts) for split, counts in rows.items()} for length, rows in summary["rows"].items()
        },
        "fill": summary["fill"],
        "samples": {source: text[:_SAMPLE_CHARACTERS] for source, text in samples.items()},
    }


def render_card(card: dict[str, Any]) -> str:
    """Return the card as Markdown."""
    lines = [f"# Corpus {card['name']}", "", f"{card['training_tokens']:,} training tokens, epochs counted.", ""]
    lines.append("| source | records | train | held out | tokens | with epochs | salient | longest |")
    lines.append("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name, account in card["sources"].items():
        mark = " (synthetic)" if account["synthetic"] else ""
        documents = account["documents"]
        lines.append(
            f"| {name}{mark} | {account['records']:,} | {documents['train']:,} | {documents['held_out']:,} | "
            f"{sum(account['tokens'].values()):,} | {account['training_tokens_with_epochs']:,} | "
            f"{account['salient_share']:.1%} | {account['longest_document_tokens']:,} |"
        )
    for title, field in (("Dropped", "dropped"), ("Languages", "languages"), ("Identifiers found", "identifiers")):
        lines += ["", f"## {title}", ""]
        for name, account in card["sources"].items():
            found = ", ".join(f"{key} {count:,}" for key, count in account[field].items()) or "none"
            lines.append(f"- {name}: {found}")
    for name, account in card["sources"].items():
        if account["quarantined"]:
            unread = (
                f", {account['unread_bytes']:,} bytes behind damage were not read" if account["unread_bytes"] else ""
            )
            lines += ["", f"{name}: {account['quarantined']:,} records quarantined{unread} (`quarantine.jsonl`)."]
    lines += ["", "## Lengths", "", "Documents below each power of two, in tokens.", ""]
    for name, account in card["sources"].items():
        classes = ", ".join(f"<{2**n}: {count:,}" for n, count in enumerate(account["length_classes"]) if count)
        lines.append(f"- {name}: {classes or 'none'}")
    lines += ["", "## Rows", ""]
    for length, rows in card["rows"].items():
        filled = f"{card['fill'][length]:.2%} filled"
        lines.append(f"- {length} tokens: {rows['train']:,} train, {rows['held_out']:,} held out, {filled}")
    if card["samples"]:
        lines += ["", "## Samples", ""]
        for name, text in card["samples"].items():
            quoted = text.replace("\n", "\n> ")
            lines += [f"{name}:", "", f"> {quoted}", ""]
    return "\n".join(lines).rstrip() + "\n"
