"""The closing screen says what the manifests hold, marks what is synthetic, and hides no failure."""

from typing import Any

import pytest
from clinical_modernbert.artifacts import Artifact, Manifest, open_store
from clinical_modernbert.demo.screen import EndpointCheck, Results, render_screen

ACCOUNT = {
    "records": 1200,
    "documents": {"train": 1100, "held_out": 60},
    "dropped": {"duplicate": 30, "too_short": 8},
    "quarantined": 2,
    "tokens": {"train": 90_000, "held_out": 10_000},
    "salient_tokens": 12_500,
}
CLEAN = {**ACCOUNT, "records": 1160, "dropped": {}, "quarantined": 0}
SUMMARIES: dict[str, dict[str, Any]] = {
    "corpus": {
        "sources": {"notes": ACCOUNT, "icd9": CLEAN},
        "synthetic_sources": ["notes"],
        "fill": {"128": 0.99876},
        "vocabulary_size": 8192,
    },
    "model": {
        "num_parameters": 1_600_000,
        "num_steps": 600,
        "tokens_per_second": 12_345.6,
        "loss_first": 9.0114,
        "loss_last": 3.25,
    },
    "sweep": {
        "trials": [
            {"point": {"optimizer.learning_rate": 0.003}, "value": 5.5, "error": None},
            {"point": {"optimizer.learning_rate": 1e-05}, "value": None, "error": "the loss is not a number"},
        ]
    },
    "evaluation": {
        "top_k": [1, 5],
        "masks": {
            kind: {
                "tokens": 4321,
                "model": {"1": 0.25, "5": 0.5},
                "unigram": {"1": 0.05, "5": 0.125},
                "sources": {"notes": {"tokens": 321, "model": {"1": 0.75, "5": 0.875}, "unigram": {"1": 0.0, "5": 1.0}}},
            }
            for kind in ("uniform", "entity")
        },
    },
    "vectors": {"num_steps": 300, "loss_first": 4.25, "loss_last": 1.5},
    "map": {
        "num_codes": 6000,
        "purity": {"k": 10, "encoder": 0.4321, "untrained": 0.2, "tfidf": 0.5678, "permutation": 0.075},
    },
}  # fmt: skip


def artifact(kind: str, **changes: Any) -> Artifact:
    manifest = Manifest(
        kind=kind,
        id=f"demo-{kind}",
        fingerprint="0123456789ab",
        format_version=1,
        code_version="0",
        created_at="2026-01-01T00:00:00+00:00",
        recipe={},
        inputs=(),
        summary={**SUMMARIES[kind], **changes},
        files=(),
    )
    return Artifact(store=open_store("file:///nowhere"), manifest=manifest, prefix=f"{kind}/demo")


def screen(*, difference: float = 1e-7, **changes: Any) -> str:
    made = Results(
        corpus=artifact("corpus"),
        model=artifact("model", **changes.get("model", {})),
        sweep=artifact("sweep"),
        evaluation=artifact("evaluation"),
        vectors=artifact("vectors"),
        vector_lines=["  encoder after  0.500"],
        code_map=artifact("map", **changes.get("map", {})),
        endpoint=EndpointCheck(num_texts=3, largest_difference=difference),
    )
    return render_screen(made, notes=["make serve"])


def line(text: str, start: str) -> str:
    (found,) = [one for one in text.splitlines() if one.strip().startswith(start)]
    return " ".join(found.split())


def test_the_account_of_a_source_is_one_line() -> None:
    assert line(screen(), "notes*") == "notes* 1,200 1,100 60 100,000 12.5% duplicate 30, too_short 8, quarantined 2"
    assert line(screen(), "icd9") == "icd9 1,160 1,100 60 100,000 12.5% none"


def test_synthetic_sources_are_marked_and_explained() -> None:
    assert "* synthetic: generated text" in screen()
    assert "icd9*" not in screen()


def test_figures_are_the_manifests() -> None:
    text = screen()
    assert "fill 99.88% of 128-token rows" in text and "vocabulary 8,192" in text
    assert "1,600,000 parameters, 600 steps, 12,346 tokens/s" in text
    assert "loss 9.011 -> 3.250" in text
    assert line(text, "uniform mask") == "uniform mask tokens top-1 top-5"
    assert "all 4,321 25.00% / 5.00% 50.00% / 12.50%" in " ".join(text.split())
    assert "300 steps, loss 4.250 -> 1.500\n  encoder after  0.500" in text
    assert "6,000 ICD-9 codes, chapter purity@10" in text
    assert "encoder 0.432 | untrained 0.200 | TF-IDF 0.568 | permutation 0.075" in text
    assert "map        file:///nowhere/map/demo" in text


def test_a_failed_trial_is_shown_with_its_error_and_only_the_first_is_called_better() -> None:
    assert line(screen(), "optimizer.learning_rate=0.003").endswith("held-out loss 5.5000 <- better")
    assert line(screen(), "optimizer.learning_rate=1e-05").endswith("failed: the loss is not a number")


def test_an_encoder_below_shared_words_is_called_so() -> None:
    assert "shared words alone group the codes better" in screen()
    better = {"purity": {**SUMMARIES["map"]["purity"], "encoder": 0.6}}
    assert "shared words alone" not in screen(map=better)


@pytest.mark.parametrize(("difference", "verdict"), [(1e-6, "equal"), (1e-3, "DIFFERENT"), (float("nan"), "DIFFERENT")])
def test_the_endpoints_answer_is_judged(difference: float, verdict: str) -> None:
    assert f"3 texts: {verdict} to the offline vectors" in screen(difference=difference)


def test_a_run_too_short_to_time_says_so() -> None:
    assert "too short to time" in screen(model={"tokens_per_second": None})
