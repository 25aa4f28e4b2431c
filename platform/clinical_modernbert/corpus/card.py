"""The corpus card: what a corpus holds, for readers who have not seen it; text only of sources that the recipe calls public."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from clinical_modernbert.corpus.summary import Account, Summary
from clinical_modernbert.masking import mask_probabilities
from clinical_modernbert.recipe.pretrain import MaskingSection

_SAMPLE_CHARACTERS = 600
_MASKING = MaskingSection()


@dataclass(frozen=True, slots=True)
class SourceCard(Account):
    """The account of one source, with what follows from it."""

    salient_share: float
    """Clinical tokens by all tokens."""
    salient_mask_share: float
    """Masked clinical tokens by masked tokens at the first step of a run with the default masking."""
    training_tokens_with_epochs: int
    synthetic: bool


@dataclass(frozen=True, slots=True)
class Card:
    """The content of ``card.json``."""

    name: str
    sources: dict[str, SourceCard]
    training_tokens: int
    """Of all sources, epochs counted."""
    vocabulary_size: int
    rows: dict[str, dict[str, int]]
    """Row length -> split -> rows."""
    fill: dict[str, float]
    """Row length -> share of the places that hold tokens."""
    near_unchecked: int
    """As in ``Summary``."""
    samples: dict[str, str]
    """Source -> the beginning of one of its texts."""


def corpus_card(name: str, summary: Summary, *, samples: Mapping[str, str]) -> Card:
    """Return the card of a corpus; ``samples`` is one text by public source."""
    sources = {}
    for source, account in summary.sources.items():
        tokens = sum(account.tokens.values())
        sources[source] = SourceCard(
            **asdict(account),
            salient_share=account.salient_tokens / tokens if tokens else 0.0,
            salient_mask_share=_mask_share(account.salient_tokens, tokens) if tokens else 0.0,
            training_tokens_with_epochs=summary.training_tokens[source],
            synthetic=source in summary.synthetic_sources,
        )
    return Card(
        name=name,
        sources=sources,
        training_tokens=sum(summary.training_tokens.values()),
        vocabulary_size=summary.vocabulary_size,
        rows={length: {split: sum(counts) for split, counts in rows.items()} for length, rows in summary.rows.items()},
        fill=summary.fill,
        near_unchecked=summary.near_unchecked,
        samples={source: text[:_SAMPLE_CHARACTERS] for source, text in samples.items()},
    )


def _mask_share(salient: int, tokens: int) -> float:
    rate = _MASKING.rate_start
    chance, _ = mask_probabilities(
        np.array([salient]), np.array([tokens - salient]), rate=rate, odds=_MASKING.odds_start
    )
    return float(chance[0]) * salient / (rate * tokens)


def render_card(card: Card) -> str:
    """Return the card as Markdown."""
    lines = [f"# Corpus {card.name}", "", f"{card.training_tokens:,} training tokens, epochs counted.", ""]
    lines += [
        f"*Masks* is the share of the masked tokens that are clinical at odds {_MASKING.odds_start:g} and rate "
        f"{_MASKING.rate_start:g}; under uniform masks it is the share of clinical tokens (*salient*).",
        "",
        "| source | records | train | held out | dropped | quarantined | lost "
        "| tokens | with epochs | salient | masks | longest |",
        "|---|" + "--:|" * 11,
    ]
    for name, source in card.sources.items():
        mark = " (synthetic)" if source.synthetic else ""
        lines.append(
            f"| {name}{mark} | {source.records:,} | {source.documents['train']:,} | {source.documents['held_out']:,} | "
            f"{sum(source.dropped.values()):,} | {source.quarantined:,} | {_lost(source)} | "
            f"{sum(source.tokens.values()):,} | {source.training_tokens_with_epochs:,} | "
            f"{source.salient_share:.1%} | {source.salient_mask_share:.1%} | {source.longest_document_tokens:,} |"
        )
    lines += _counted("Dropped", {name: source.dropped for name, source in card.sources.items()})
    lines += _counted("Dropped, by evaluation set", {name: source.leaking for name, source in card.sources.items()})
    lines += _counted("Languages", {name: source.languages for name, source in card.sources.items()})
    lines += _counted("Identifiers found", {name: source.identifiers for name, source in card.sources.items()})
    for name, source in card.sources.items():
        if source.repeated_ids:
            lines += ["", f"{name}: {source.repeated_ids:,} documents have the id of an earlier one in their file."]
        if source.quarantined:
            lost = f", about {source.lost:,} more are lost" if source.lost else ""
            unread = f", {source.unread_bytes:,} bytes follow damage or are missing" if source.unread_bytes else ""
            lines += ["", f"{name}: {source.quarantined:,} records quarantined{lost}{unread} (`quarantine.jsonl`)."]
    if card.near_unchecked:
        shown = f"{card.near_unchecked:,} records of MinHash bands"
        lines += ["", f"{shown} were compared with a part of their bucket only, because it is too large."]
    lines += ["", "## Lengths", "", "Documents below each power of two, in tokens.", ""]
    for name, source in card.sources.items():
        classes = ", ".join(f"<{2**n}: {count:,}" for n, count in enumerate(source.length_classes) if count)
        lines.append(f"- {name}: {classes or 'none'}")
    lines += ["", "## Rows", ""]
    for length, rows in card.rows.items():
        filled = f"{card.fill[length]:.2%} filled"
        lines.append(f"- {length} tokens: {rows['train']:,} train, {rows['held_out']:,} held out, {filled}")
    if card.samples:
        lines += ["", "## Samples", ""]
        for name, text in card.samples.items():
            quoted = text.replace("\n", "\n> ")
            lines += [f"{name}:", "", f"> {quoted}", ""]
    return "\n".join(lines).rstrip() + "\n"


def _lost(source: Account) -> str:
    """Return about how many records were lost with the quarantined ones."""
    if source.unread_bytes and not source.lost:
        return "unknown"
    return f"~{source.lost:,}" if source.lost else "0"


def _counted(title: str, counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    lines = ["", f"## {title}", ""]
    for name, by_key in counts.items():
        lines.append(f"- {name}: {', '.join(f'{key} {count:,}' for key, count in by_key.items()) or 'none'}")
    return lines
