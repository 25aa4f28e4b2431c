"""Made-up evaluation reports with every part, and the data of figure 2 beside them."""

from typing import Any

import pyarrow as pa

from tests.helpers.explorer_page import code_table


def table_4() -> dict[str, Any]:
    """Masked-token figures; the model loses to one baseline under the entity mask."""

    def shares(first: float) -> dict[str, float]:
        return {"1": first, "5": first + 0.1, "10": first + 0.2, "25": first + 0.3}

    def mask(bigram: float) -> dict[str, Any]:
        ranks = {"model": shares(0.39), "unigram": shares(0.07), "bigram_both": shares(bigram)}
        spread = {who: {k: [v - 0.01, v + 0.01] for k, v in own.items()} for who, own in ranks.items()}
        wards = {"tokens": 2420, "documents": 50, **ranks, "intervals": spread}
        return {
            "loss": 3.7,
            "tokens": 28_696,
            "documents": 600,
            **ranks,
            "intervals": spread,
            "sources": {"wards": wards},
        }

    return {"rows": 1595, "top_k": [1, 5, 10, 25], "masks": {"uniform": mask(0.2), "entity": mask(0.5)}}


def full_report() -> dict[str, Any]:
    """A report with every part; ``render`` of the package must take it."""

    def estimate(mean: float) -> dict[str, float]:
        return {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}

    def figure(mean: float) -> dict[str, Any]:
        return {**estimate(mean), "seeds": [mean], "std_over_seeds": None}

    def results(metrics: dict[str, float], main: str, **more: Any) -> list[dict[str, Any]]:
        common = {
            "encoder": "ours",
            "mode": "fine_tuned",
            "main_metric": main,
            "groups": 90,
            "seeds": [0],
            "artifacts": [],
        }
        return [
            {
                **common,
                "num_train": size,
                "metrics": {m: figure(v) for m, v in metrics.items()},
                "counts": {"test": 90},
                **more,
            }
            for size in (None, 16, 64)
        ]

    def task(kind: str, found: list[dict[str, Any]]) -> dict[str, Any]:
        test = {"mode": "fine_tuned", "first": "ours", "second": "biobert", "metric": found[0]["main_metric"], "difference": 0.01,
                "low": -0.01, "high": 0.03, "p": 0.02, "p_holm": 0.04, "detectable": 0.03,
                "verdict": "too few seeds"}  # fmt: skip
        pairs = [{"gold": "A", "predicted": "B", "examples": 40.0}, {"gold": "B", "predicted": "A", "examples": 4.0}]
        lengths = [
            {"words": [2, 9], "examples": 40, "accuracy": 0.5},
            {"words": [9, 30], "examples": 4, "accuracy": 0.25},
        ]
        rarity = {"never": {"recall": 0.3, "low": 0.2, "high": 0.4, "gold": 30}}
        ranks = {"first_relevant_rank": {"1": 30.0, "not found": 10.0}}
        errors = {
            "fine_tuned": {
                "ours": {"label_pairs": pairs, "by_length": lengths, "recall_by_rarity": rarity},
                "other": ranks,  # retrieval has no labels
            }
        }
        return {
            "type": kind,
            "note": "",
            "results": found,
            "paired_tests": [test],
            "errors": errors,
            "facts": {"cut": ["ours: 3"]},
        }

    points = [{"predicted": 0.1, "observed": 0.2, "examples": 80}, {"predicted": 0.9, "observed": 1.0, "examples": 3}]
    calibration = {
        "brier": 0.1,
        "expected_calibration_error": 0.03,
        "intervals": {"brier": [0.08, 0.12], "expected_calibration_error": [0.01, 0.05]},
        "curve": points,
    }
    codes = {
        "codes": 900,
        "purity": estimate(0.5),
        "neighbour_agreement": estimate(0.6),
        "silhouette": estimate(0.1),
        "permutation": 0.05,
        "permutations": {name: estimate(0.05) for name in ("purity", "neighbour_agreement", "silhouette")},
    }
    point = {
        "texts": 100,
        "seconds": [1.0, 1.2],
        "mean_seconds": 1.1,
        "tokenizing_seconds": 0.1,
        "tokens": 44_000,
        "texts_per_second": 100 / 1.1,
        "tokens_per_second": 4e4,
        "memory_bytes": None,
    }
    return {
        "encoders": {
            "ours": {
                "origin": "model/first-1",
                "architecture": "modernbert",
                "max_tokens": 128,
                "pooling": "cls",
                "digest": "ab",
            }
        },
        "skipped": {
            "encoders": {"biobert": "not on this machine"},
            "artifacts": {},
            "tasks": {"i2b2-2014": "i2b2/2014 does not exist"},
            "masks": {},
        },
        "other_masks": {"sibling": {mask: table_4()["masks"][mask] for mask in ("uniform", "entity")}},
        "seeds": [0],
        "num_resamples": 100,
        "tuning": {},
        "statistics": {
            "ehr": {
                "samples": 236,
                "mean_words": 100.4,
                "most_words": 444,
                "mean_tokens": 224.1,
                "most_tokens": 1039,
                "tokens_of": "ours",
            }
        },
        "tasks": {
            "ehr": task("disposition", results({"auroc": 0.91, "accuracy": 0.8}, "auroc", calibration=calibration)),
            "medner": task("entities", results({"f1": 0.7, "token_accuracy": 0.9}, "f1")),
            "own": task("sentence_roles", results({"accuracy": 0.7, "f1_macro": 0.6, "f1_weighted": 0.6}, "f1_macro")),
        },
        "codes": {
            "num_codes": 900,
            "k": 10,
            "tfidf": codes,
            "encoders": {"ours": {**codes, "untrained": codes, "seen": codes, "held_out": codes}},
        },
        "efficiency": {
            "hardware": "2 CPU threads",
            "words": 512,
            "arithmetic": dict.fromkeys(("as_its_code", "as_its_text", "fair"), "float32"),
            "protocols": {
                p: {"ours": [point, {**point, "texts": 200}]} for p in ("as_its_code", "as_its_text", "fair")
            },
            "tokenizers": {p: {"ours": "fast (Rust)"} for p in ("as_its_code", "as_its_text", "fair")},
        },
        **table_4(),
        "model": "first-1",
    }


def figure_2() -> pa.Table:
    """``code_table`` as two encoders place it: ``ours`` as it is, ``minilm`` on its head."""
    codes = code_table()
    places = {
        f"{encoder} {axis}": pa.array(sign * codes[axis].to_numpy())
        for encoder, sign in (("ours", 1), ("minilm", -1))
        for axis in "xy"
    }
    about = ("code", "description", "chapter_id", "chapter")
    return pa.table({name: codes[name] for name in about} | places)
