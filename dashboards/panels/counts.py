"""Small counts of people's records are withheld, because they could identify a person.

A count below ``FLOOR`` is withheld. Where it could be computed from a total, the next smallest count is withheld too, until
the withheld counts are at least two and their sum is not small. This protects one table at a time: a user who sees several
tables of the same records can still compare them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st

FLOOR = 11
WITHHELD = "withheld"
_TOTALS = ("rows", "records")
_LISTS_OF_RECORDS = ("quarantine",)


def withhold_small(counts: Mapping[str, int], *, floor: int = FLOOR) -> tuple[dict[str, int | None], int | None]:
    """Return the counts of one partition and their total, with None where a count is withheld. Zeros are shown."""
    total = sum(counts.values())
    hidden = {name for name, count in counts.items() if 0 < count < floor}
    if not hidden:
        return dict(counts), total
    left = sorted((count, name) for name, count in counts.items() if count >= floor)
    while left and (len(hidden) < 2 or sum(counts[name] for name in hidden) < floor):
        hidden.add(left.pop(0)[1])
    guarded = len(hidden) > 1 and sum(counts[name] for name in hidden) >= floor
    return {name: None if name in hidden else count for name, count in counts.items()}, total if guarded else None


def shown_counts(counts: Mapping[str, int], *, public: bool) -> tuple[dict[str, int | None], int | None]:
    """Return counts and total as they may be shown: whole for public or generated text, else with small counts withheld."""
    return (dict(counts), sum(counts.values())) if public else withhold_small(counts)


def in_words(count: int | None) -> str:
    """Return a count for a cell. A withheld one is named: an empty cell, or None, would read as zero."""
    return WITHHELD if count is None else f"{count:,}"


def sum_in_words(counts: Iterable[int | None]) -> str:
    """Return the sum of the counts that are shown; "> 60" where one is withheld, because the full sum would reveal it."""
    cells = list(counts)
    total = f"{sum(cell for cell in cells if cell is not None):,}"
    return f"> {total}" if None in cells else total


def withheld_figures(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of an artifact made of people's records as they may be shown: no small count, and no list of records.

    Counts that stand alone in a mapping are one partition. Where a count next to, or below, a total is withheld, so is the total.
    """
    if figures and all(_is_count(value) for value in figures.values()):
        counts, _ = withhold_small(figures)
        return {name: WITHHELD if count is None else count for name, count in counts.items()}
    shown: dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            shown[name] = withheld_figures(value)
        elif name in _LISTS_OF_RECORDS:
            shown[name] = "not shown: it names records"
        else:
            shown[name] = WITHHELD if _is_count(value) and 0 < value < FLOOR else value
    if _withholds(shown):
        shown |= {name: WITHHELD for name in _TOTALS if name in shown}
    return shown


def _withholds(shown: Mapping[str, Any]) -> bool:
    return any(_withholds(value) if isinstance(value, Mapping) else value == WITHHELD for value in shown.values())


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def explain_withheld() -> None:
    """Explain withheld counts."""
    st.caption(
        f'"{WITHHELD}" is a count below {FLOOR}, or a count that is withheld so that a small one cannot be computed. '
        "Counts of public and generated text are shown whole."
    )
