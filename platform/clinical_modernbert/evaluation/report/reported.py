"""The paper's own figures (tables 3 to 8 and figure 3), printed beside ours as "reported"; never mixed with them."""

ENCODERS = (
    "bert-base-uncased",
    "biobert",
    "bioclinicalbert",
    "clinical-longformer",
    "modernbert",
    "clinical-modernbert",
)
UNSAID_F1 = "f1 (which is not said)"
# (task, metric, figure of each encoder)
TABLES_6_TO_8: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("ehr", "auroc", (0.9503, 0.9680, 0.9678, 0.9640, 0.9677, 0.9769)),
    ("pubmed-nct", "accuracy", (0.8754, 0.9179, 0.9145, 0.8950, 0.9104, 0.9209)),
    ("pubmed-nct", UNSAID_F1, (0.8706, 0.9187, 0.8285, 0.8250, 0.7602, 0.8654)),
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
# Table 4, %: k -> accuracy. Its mask is that of training, which is not said to be ours.
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


def figure_3() -> str:
    """Return figure 3's last points in words: seconds, the rate, and how many times the fastest one's."""
    fastest = min(FIGURE_3.values())
    return ", ".join(
        f"{name} {seconds:.0f} s ({100_000 / seconds:.0f} texts a second, {seconds / fastest:.2f} times the fastest)"
        for name, seconds in FIGURE_3.items()
    )
