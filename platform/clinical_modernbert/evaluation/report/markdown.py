"""Markdown of a report's cells and tables."""

from collections.abc import Iterable, Sequence

from clinical_modernbert.evaluation.report.schema import Estimate, Range

NONE = "–"
"""A cell without a figure."""
NOT_DEFINED = "not defined"
"""A cell of a metric that the reported examples do not allow, such as AUROC of one class."""


def table(head: Sequence[str], rows: Iterable[Sequence[str | int]]) -> str:
    """Return a Markdown table."""
    lines: list[Sequence[str | int]] = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(value).replace('|', '/') for value in line)} |" for line in lines)


def cell(estimate: Estimate) -> str:
    """Return a mean with its interval."""
    return ranged(estimate.mean, (estimate.low, estimate.high))


def ranged(value: float, interval: Range, *, digits: int = 4, sign: str = "-") -> str:
    """Return a figure with its interval; ``sign="+"`` writes the plus of a difference."""
    return f"{value:{sign}.{digits}f} [{interval[0]:{sign}.{digits}f}, {interval[1]:{sign}.{digits}f}]"


def probability(p: float) -> str:
    """Return a p-value."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def percentage(share: float, interval: Range) -> str:
    """Return a share with its interval, in percent."""
    return f"{share:.2%} [{interval[0]:.2%}, {interval[1]:.2%}]"
