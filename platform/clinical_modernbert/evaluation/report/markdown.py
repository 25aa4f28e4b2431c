"""Markdown of a report's cells and tables."""

from collections.abc import Iterable, Sequence

from clinical_modernbert.evaluation.report.schema import Estimate, Range

NONE = "–"
"""A cell without a figure."""


def table(head: Sequence[str], rows: Iterable[Sequence[str | int]]) -> str:
    """Return a Markdown table."""
    lines: list[Sequence[str | int]] = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(value).replace('|', '/') for value in line)} |" for line in lines)


def cell(estimate: Estimate) -> str:
    """Return a mean with its interval."""
    return ranged(estimate.mean, (estimate.low, estimate.high))


def ranged(value: float, interval: Range, *, digits: int = 4) -> str:
    """Return a figure with its interval."""
    return f"{value:.{digits}f} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def percentage(share: float, interval: Range) -> str:
    """Return a share with its interval, in percent."""
    return f"{share:.2%} [{interval[0]:.2%}, {interval[1]:.2%}]"
