"""The paper's tables: which task is in which of them, and the figures that it reports.

Reports and pages show these figures next to measured ones, always labelled "reported".
"""

from dataclasses import dataclass

ENCODERS = (
    "bert-base-uncased",
    "biobert",
    "bioclinicalbert",
    "clinical-longformer",
    "modernbert",
    "clinical-modernbert",
)

UNSPECIFIED_F1 = "f1 (which is not said)"


@dataclass(frozen=True, slots=True)
class Column:
    """One metric of one task in a table."""

    task: str
    metric: str
    title: str
    reported_metric: str | None = None
    """How ``TABLES_6_TO_8`` names the paper's figure, if not by ``metric``."""


@dataclass(frozen=True, slots=True)
class PaperTable:
    """A table of the paper: its tasks side by side, a column a metric; without ``columns`` a table for each task."""

    title: str
    tasks: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    kind: str | None = None
    """Without ``columns``: the kind of its tasks, whose metrics are shown."""
    note: str = ""


I2B2_YEARS = (2006, 2010, 2012, 2014)
TASK_TABLES = (
    PaperTable(
        "Table 6: short context",
        ("ehr", "pubmed-nct", "medner"),
        (
            Column("ehr", "auroc", "EHR AUROC"),
            Column("pubmed-nct", "accuracy", "PubMed-NCT accuracy"),
            Column("pubmed-nct", "f1_macro", "PubMed-NCT F1 macro", UNSPECIFIED_F1),
            Column("pubmed-nct", "f1_weighted", "PubMed-NCT F1 weighted", UNSPECIFIED_F1),
            Column("medner", "token_accuracy", "MedNER accuracy"),
            Column("medner", "f1", "MedNER F1"),
        ),
        note="The paper does not say which F1 it reports for PubMed-NCT, so its figure is in both columns.",
    ),
    PaperTable(
        "Table 7: retrieval",
        ("pmc-patients", "pmc-patients-par"),
        kind="retrieval",
        note="The paper does not say whether it searches similar patients (PPR) or articles (PAR), nor which 128 queries.",
    ),
    PaperTable(
        "Table 8: long context, F1",
        tuple(f"i2b2-{year}" for year in I2B2_YEARS),
        tuple(Column(f"i2b2-{year}", "f1", f"i2b2 ({year})") for year in I2B2_YEARS),
    ),
)
PAPER_TASKS = frozenset(task for paper_table in TASK_TABLES for task in paper_table.tasks)
NUM_QUERIES = 128
"""Queries of Table 7."""

# (task, metric, figure of each encoder)
TABLES_6_TO_8: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("ehr", "auroc", (0.9503, 0.9680, 0.9678, 0.9640, 0.9677, 0.9769)),
    ("pubmed-nct", "accuracy", (0.8754, 0.9179, 0.9145, 0.8950, 0.9104, 0.9209)),
    ("pubmed-nct", UNSPECIFIED_F1, (0.8706, 0.9187, 0.8285, 0.8250, 0.7602, 0.8654)),
    ("medner", "token_accuracy", (0.842, 0.909, 0.849, 0.820, 0.695, 0.829)),
    ("medner", "f1", (0.691, 0.794, 0.710, 0.720, 0.517, 0.766)),
    ("pmc-patients", "ndcg@10", (0.0600, 0.1956, 0.1512, 0.1700, 0.1865, 0.2167)),
    ("pmc-patients", "precision@10", (0.0079, 0.0489, 0.0291, 0.0420, 0.0463, 0.0552)),
    ("pmc-patients", "recall@10", (0.0604, 0.1866, 0.1466, 0.2100, 0.2256, 0.2791)),
    ("pmc-patients", "map", (0.0589, 0.1827, 0.1441, 0.1600, 0.1839, 0.1982)),
    ("i2b2-2006", "f1", (0.938, 0.947, 0.950, 0.973, 0.957, 0.965)),
    ("i2b2-2010", "f1", (0.834, 0.866, 0.860, 0.886, 0.875, 0.883)),
    ("i2b2-2012", "f1", (0.758, 0.791, 0.772, 0.799, 0.782, 0.804)),
    ("i2b2-2014", "f1", (0.927, 0.929, 0.928, 0.960, 0.948, 0.966)),
)
# Table 4, %: k -> accuracy. The paper measures under its training mask; it does not say that this is our frozen mask.
TABLE_4 = {"1": 63.31, "5": 79.67, "10": 83.33, "25": 88.10}

# Table 5, %: (arm, top-1, top-5, top-10, top-25). Each arm is measured under its own training mask.
TABLE_5 = (
    ("baseline", 63.31, 79.67, 83.33, 88.10),
    ("without token-aware masking", 48.84, 53.01, 56.10, 58.79),
    ("15 % masked instead of 30 %", 58.22, 73.87, 76.90, 80.57),
)

# Table 3: task -> (samples, mean length, longest).
TABLE_3 = {
    "ehr": (400_019, 278.6, 2_684),
    "medner": (3_655, 17.7, 125),
    "pubmed-nct": (221_186, 26.2, 260),
    "pmc-patients": (167_034, 37.3, 2_728),
    "i2b2-2006": (66_034, 867.0, 3_986),
    "i2b2-2010": (43_947, 1_459.3, 6_052),
    "i2b2-2012": (13_108, 793.6, 2_900),
    "i2b2-2014": (83_466, 5_133.5, 14_370),
}

# Figure 3, seconds for 100,000 documents on one A100.
FIGURE_3 = {"distilbert": 853.28, "bioclinicalbert": 1178.38, "clinical-modernbert": 729.29}


def task_figures(task: str) -> dict[str, dict[str, float]]:
    """Return metric -> encoder -> reported figure; empty if the paper does not have the task."""
    return {
        metric: dict(zip(ENCODERS, figures, strict=True)) for name, metric, figures in TABLES_6_TO_8 if name == task
    }


def figure_3() -> str:
    """Return the last points of figure 3 in words: seconds, rate, and how many times the fastest encoder's seconds."""
    fastest = min(FIGURE_3.values())
    return ", ".join(
        f"{name} {seconds:.0f} s ({100_000 / seconds:.0f} texts a second, {seconds / fastest:.2f} times the fastest)"
        for name, seconds in FIGURE_3.items()
    )
