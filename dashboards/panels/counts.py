"""Counts of people's records that are too small to be shown: they could point at somebody.

Below ``FLOOR`` a count is withheld. Where one withheld cell could be worked out from a total, the next smallest is withheld
with it, until what is missing is the sum of at least two cells and not itself small. It guards one table at a time, no more:
who may see several tables of the same records can still compare them.
"""

from collections.abc import Mapping

import streamlit as st

FLOOR = 11


def withhold_small(counts: Mapping[str, int], *, floor: int = FLOOR) -> tuple[dict[str, int | None], int | None]:
    """Return the cells of one partition and their total, with None where a count is withheld; zeros are shown."""
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
    """Return cells and total as they may be shown: all of public or generated text, without the small ones of any other."""
    return (dict(counts), sum(counts.values())) if public else withhold_small(counts)


def explain_withheld() -> None:
    """Say what an empty cell means."""
    st.caption(
        f"An empty cell (None) is a count below {FLOOR}, or one withheld with it so that it cannot be worked out; counts of "
        "public and of generated text are shown whole."
    )
