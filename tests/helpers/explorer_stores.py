"""A store with everything that the explorer shows: corpus, finished and running pretraining, sweeps, evaluations.

The sweep's report is made by the package's own functions and the evaluation's must render as the package's Markdown, so that a
change of their form breaks the tests here, not the pages.
"""

import atexit
import hashlib
import json
import math
import shutil
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.artifacts import Artifact, InputEntry, Manifest, Store, open_store, upload, write_manifest
from clinical_modernbert.artifacts.artifact import find_artifact
from clinical_modernbert.artifacts.layout import FORMAT_VERSION
from clinical_modernbert.artifacts.work_area import from_json
from clinical_modernbert.corpus.card import corpus_card
from clinical_modernbert.corpus.summary import Summary
from clinical_modernbert.evaluation.report.schema import read_report
from clinical_modernbert.evaluation.report.text import render
from clinical_modernbert.recipe import SweepRecipe
from clinical_modernbert.training.records import PROGRESS_NAME, Records

from tests.helpers.reports import figure_2, full_report, table_4

SECRET = "a sentence that nobody typed elsewhere"
SAMPLE = "Aspirin lowered the risk of stroke in a trial."


@pytest.fixture
def full_store(store: Store) -> Store:
    """The test's store with everything that the explorer shows."""
    fill_store(store)
    return store


def fill_store(store: Store) -> None:
    """Publish a corpus, two models, one running, an ablation, a search, and two evaluations; they are made once a process."""
    made = _full()
    for item in made.walk(""):
        store.write_bytes(item.key, made.read_bytes(item.key))


@cache
def _full() -> Store:
    scratch = Path(tempfile.mkdtemp(prefix="full-store-"))
    atexit.register(shutil.rmtree, scratch)
    store, folder = open_store(f"file://{scratch}/store"), scratch / "made"
    publish_corpus(store, folder)
    for name, rate in (("first", 3e-3), ("second", 1e-3)):
        publish_run(store, folder, name=name, learning_rate=rate)
    write_progress(store, step=40)
    publish_sweeps(store, folder)
    publish_evaluations(store, folder)
    return store


def replace_file(store: Store, key: str, content: bytes) -> None:
    """Publish an artifact anew with another file: its digest is right, its content is not."""
    prefix, _, path = key.rpartition("/")
    store.write_bytes(key, content)
    manifest = json.loads(store.read_bytes(f"{prefix}/manifest.json"))
    for entry in manifest["files"]:
        if entry["path"] == path:
            entry |= {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    store.write_bytes(f"{prefix}/manifest.json", json.dumps(manifest).encode())


def account(
    train: int, held_out: int, dropped: dict[str, int], *, quarantined: int = 0, leaking: dict[str, int] | None = None
) -> dict[str, Any]:
    """A source's account that balances, as the corpus publishes it."""
    return {
        "records": train + held_out + sum(dropped.values()) + quarantined,
        "documents": {"train": train, "held_out": held_out},
        "dropped": dropped,
        "repeated_ids": 0,
        "quarantined": quarantined,
        "lost": 20 * quarantined,
        "unread_bytes": 17 * quarantined,
        "tokens": {"train": train * 300, "held_out": held_out * 300},
        "salient_tokens": train * 20,
        "languages": {"en": train, "short": held_out},
        "identifiers": {"date": 40, "name": 3},
        "leaking": leaking or {},
        "documents_with_identifiers": 41,
        "length_classes": [0, 0, 0, 0, 0, 0, held_out, train] + [0] * 16,
        "longest_document_tokens": 127,
    }


def publish_corpus(store: Store, folder: Path, *, artifact_id: str = "full-1", more: int = 0) -> Artifact:
    """Publish a corpus of a public, a hospital's and a generated source; the public one has ``more`` training documents."""
    accounts = {
        "abstracts": account(
            500 + more, 40, {"contaminated": 8, "too_short": 7, "duplicate": 60}, leaking={"rct": 8, "ner": 3}
        ),
        "wards": account(
            400, 30, {"contaminated": 50, "too_short": 4, "near_duplicate": 70}, quarantined=2, leaking={"rct": 50}
        ),
        "notes": account(300, 20, {}),
    }
    listed = [
        {
            "source": "wards",
            "file": "b.csv",
            "position": "row 7",
            "reason": "no text",
            "record_id": "patient-77",
            "sha256": None,
        },
        {
            "source": "wards",
            "file": "b.csv",
            "position": "row 9",
            "reason": "no text",
            "record_id": "patient-99",
            "sha256": None,
        },
    ]
    summary = {
        "sources": accounts,
        "training_tokens": {"abstracts": 150_000, "wards": 360_000, "notes": 90_000},
        "synthetic_sources": ["notes"],
        "vocabulary_size": 8192,
        "rows": {"128": {"train": [4000, 600], "held_out": [300]}},
        "fill": {"128": 0.997},
        "quarantine": listed,
        "near_unchecked": 0,
        "evaluation_sets": [
            {"path": "rct", "items": 2500, "ngram_words": 13, "ngrams": 40_000},
            {"path": "ner", "items": 593, "ngram_words": 13, "ngrams": 9_000},
            {"path": "ids.txt", "items": 12, "ngram_words": None, "ngrams": 0},
        ],
    }
    card = asdict(corpus_card(artifact_id, from_json(json.dumps(summary), Summary), samples={"abstracts": SAMPLE}))
    recipe = {
        "kind": "corpus",
        "seed": more,
        "sources": [
            {"type": "pubmed", "name": "abstracts"},
            {"type": "mimic", "name": "wards"},
            {"type": "synthetic_notes", "name": "notes"},
        ],
        "card": {"public_sources": ["abstracts"]},
    }
    raw = (
        InputEntry(name="a.xml.gz", id="abstracts", digest="0" * 64),
        InputEntry(name="b.csv", id="wards", digest="1" * 64),
    )
    return _publish(
        store, folder, "corpus", artifact_id, {"card.json": card}, recipe=recipe, summary=summary, inputs=raw
    )


def history(num_steps: int, *, learning_rate: float) -> list[dict[str, Any]]:
    """A curve as the training loop records it: a start, steps, held-out figures and a rollback."""
    points: list[dict[str, Any]] = [{"step": 0, "started": "2026-11-20T10:00:00+00:00"}]
    for step in range(num_steps):
        points.append(
            {
                "step": step,
                "phase": 0,
                "loss": 3 + 6 * math.exp(-step / 20) + 1e-4 / learning_rate,
                "learning_rate": learning_rate * (1 - step / num_steps),
                "mask_rate": 0.3 - 0.15 * step / num_steps,
                "salience_odds": 4 - 3 * step / num_steps,
                "gradient_norm": 1.0,
                "masked": 1200,
                "tokens": 4096,
                "rows": "3070ccca4e4f0543",
                "fill": 1.0,
                "tokens_per_second": None if step == 0 else 5000.0,
                "flops_per_second": None,
                "mfu": None,
                "data_wait": None if step == 0 else 0.01,
                "memory_bytes": 728_051_712,
            }
        )
        if step % 20 == 19:
            points.append({"step": step, "held_out": held_out(0.1 + step / 1000)})
    points.append({"step": num_steps // 2, "rolled_back_to": 10, "reason": "the loss is no number"})
    return points


def held_out(top1: float) -> dict[str, float]:
    """Held-out figures under both frozen masks."""
    shares = {1: top1, 5: top1 + 0.1, 10: top1 + 0.2, 25: top1 + 0.3}
    found = {f"{mask}_loss": 5 - top1 for mask in ("uniform", "entity")}
    return found | {f"{mask}_top{k}": share for mask in ("uniform", "entity") for k, share in shares.items()}


def phase(number: int | None, *, steps: int, tokens: dict[str, int], objective: str = "masked") -> dict[str, Any]:
    """The account of a phase in a model's summary."""
    return {"phase": number, "objective": objective, "steps": steps, "predicted": 300, "flops": 1e12, "tokens": tokens}


def publish_two_phases(store: Store, folder: Path) -> Artifact:
    """Publish ``two-1``: 40 causal steps on ``full-1``, then 60 masked ones on a mixture with ``more-1``."""
    points = history(100, learning_rate=1e-3)
    for point in points:
        causal = point["step"] < 40
        if "phase" in point:
            point["phase"] = 0 if causal else 1
        if "held_out" in point:
            if causal:
                point["held_out"] |= {"causal_loss": 4.5, "causal_top1": 0.2}
            of_source = {"wards": held_out(0.3), "abstracts": held_out(0.1)}
            figures = {"overall": point["held_out"], "by_source": of_source}
            point["corpora"] = {"full-1": figures, "more-1": {"overall": held_out(0.5), "by_source": {}}}
    accounts = [
        phase(0, steps=40, tokens={"full-1": 4000}, objective="causal"),
        phase(1, steps=60, tokens={"full-1": 1500, "more-1": 4500}),
    ]
    return publish_run(store, folder, name="two", learning_rate=1e-3, phases=accounts, points=points)


def publish_run(
    store: Store,
    folder: Path,
    *,
    name: str,
    learning_rate: float,
    num_steps: int = 100,
    phases: list[dict[str, Any]] | None = None,
    points: list[dict[str, Any]] | None = None,
) -> Artifact:
    """Publish the model ``<name>-1`` with its curve, made from the corpus ``full-1``; of one phase unless told otherwise."""
    corpus = find_artifact(store, "corpus", "full-1")
    assert corpus
    recipe = {"kind": "pretrain", "name": name, "optimizer": {"learning_rate": learning_rate}, "training": {"seed": 0}}
    summary = {
        "num_parameters": 1_631_488,
        "num_steps": num_steps,
        "precision": "float32",
        "loss_first": 9.0,
        "loss_last": 3.1,
        "tokens_per_second": 5000.0,
        "mfu": None,
        "row_order": "aa",
        "training_flops": 2.5e13,
        "exported_step": num_steps,
        "held_out": held_out(0.2),
        "rollbacks": 1,
        "corpus": "full-1",
        "phases": phases or [phase(0, steps=num_steps, tokens={"full-1": 1000})],
        "initial_weights": "bb",
    }
    inputs = (InputEntry(name="corpus", id="corpus/full-1", digest=corpus.manifest.digest),)
    files = {"history.json": points or history(num_steps, learning_rate=learning_rate)}
    return _publish(store, folder, "model", f"{name}-1", files, recipe=recipe, summary=summary, inputs=inputs)


def write_progress(store: Store, *, step: int, run: str = "live-1") -> None:
    """Leave what a run that trains leaves at each recorded step."""
    points, records = history(step, learning_rate=1e-3), Records(store, run)
    records.write("progress-000000.json", {"points": points})
    records.write(PROGRESS_NAME, {"step": step, "num_steps": 200, "points": len(points), "version": f"w-{step}"})


def publish_sweeps(store: Store, folder: Path) -> None:
    """Publish the ablation ``arms-1`` with one failed trial, and the search ``search-1``."""
    recipe = SweepRecipe(
        name="arms", base="pretrain/demo", corpus="full-1", seeds=(0, 1, 2),
        arms={"token-aware": (), "uniform": ("masking.strategy=uniform",), "broken": ("optimizer.learning_rate=1.0",)},
    )  # fmt: skip
    publish_sweep(store, folder, recipe, trial_names="trial0")
    search = search_of("search", {"optimizer.learning_rate": [0.001, 0.003, 0.01]})
    publish_sweep(store, folder, search, trial_names="trial1")


def search_of(name: str, grid: dict[str, list[float]]) -> SweepRecipe:
    """A search over a grid: dotted path -> its values."""
    space = {path: {"type": "grid", "values": values} for path, values in grid.items()}
    return SweepRecipe.model_validate({"name": name, "base": "pretrain/demo", "corpus": "full-1", "space": space})


def publish_sweep(store: Store, folder: Path, sweep: SweepRecipe, *, trial_names: str) -> None:
    """Publish a sweep with its trials, whose arm ``broken`` failed; the report is made by ``sweeps.report``."""
    from clinical_modernbert.sweeps.kinds import MASKED_METRICS
    from clinical_modernbert.sweeps.report import build_report
    from clinical_modernbert.sweeps.results import ArmCurve, Trial
    from clinical_modernbert.sweeps.results_json import curves_to_json, report_to_json
    from clinical_modernbert.sweeps.scores import GroupScores
    from clinical_modernbert.sweeps.trials import known_points, sweep_base
    from clinical_modernbert.training.state import HeldOutPoint

    def scores(gain: float) -> GroupScores:
        rng = np.random.default_rng(int(-100 * gain))
        tokens = np.full(50, 20)
        sums = {
            m: tokens * ((4 - gain) if m == "loss" else (0.3 + gain)) + rng.normal(0, 1, 50) for m in MASKED_METRICS
        }
        return GroupScores("one mask", np.arange(50, dtype=np.uint64), tokens, sums)

    trials, found = [], {}
    for place, point in enumerate(known_points(sweep)):
        name, failed = f"{trial_names}{place}", point.get("arm") == "broken"
        if not failed:
            publish_run(store, folder, name=name, learning_rate=1e-3)
            both = scores(0.0 if point.get("arm") == "token-aware" else -0.1)
            found[f"{name}-1"] = {"uniform": both, "entity": both}
        trials.append(
            Trial(
                point=point, recipe="pretrain/demo", overrides=["name=x", "corpus=full-1"], model=f"{name}-1",
                value=None if failed else 4.0 + place / 10, stopped_at_rung=None, stopped_after=None,
                error="the loss is no number" if failed else None,
            )
        )  # fmt: skip
    base = sweep_base(sweep, data_id="full-1")
    report = build_report(sweep, base, trials, found if sweep.arms else {}, store=store)
    points = tuple(HeldOutPoint(step, held_out(0.1 + step / 1000)) for step in (19, 39))
    curves = {str(trial.model): ArmCurve(trial.label, points) for trial in report.trials if not trial.error}
    files = {"report.json": report_to_json(report), "curves.json": curves_to_json(curves)}
    recipe_values = sweep.model_dump(mode="json")
    _publish(store, folder, "sweep", f"{sweep.name}-1", files, recipe=recipe_values, summary={}, inputs=())


def publish_vector_sweep(store: Store, folder: Path) -> None:
    """Publish the ablation ``vectors-1`` of a contrastive base."""
    from clinical_modernbert.sweeps.results import ArmCurve
    from clinical_modernbert.sweeps.results_json import curves_to_json, report_to_json
    from clinical_modernbert.training.state import HeldOutPoint

    from tests.helpers.vector_sweeps import vector_recipe, vector_report

    report = vector_report()
    points = tuple(HeldOutPoint(step, {"pair_loss": 3.0, "pair_recall1": 0.4 + step / 1000}) for step in (-1, 99, 199))
    curves = {str(trial.model): ArmCurve(trial.label, points) for trial in report.trials}
    files = {"report.json": report_to_json(report), "curves.json": curves_to_json(curves)}
    recipe = vector_recipe().model_dump(mode="json")
    _publish(store, folder, "sweep", "vectors-1", files, recipe=recipe, summary={}, inputs=())


def publish_evaluations(store: Store, folder: Path) -> None:
    """Publish ``masks-1`` with table 4 alone and ``whole-1`` with everything; and a probe, which is no page of its own."""
    report = full_report()
    render(read_report(report, called="made up"))
    tasks = [{"name": "ehr", "public": False}, {"name": "medner", "public": True}]
    for name, summary in (("masks", table_4()), ("whole", report)):
        recipe = {"kind": "evaluate", "name": name, "tasks": tasks if name == "whole" else []}
        _publish(
            store,
            folder,
            "evaluation",
            f"{name}-1",
            {"report.json": summary, **({"figure2.parquet": figure_2()} if name == "whole" else {})},
            recipe=recipe,
            summary=summary,
            inputs=(),
        )
    _publish(store, folder, "evaluation", "probe-1", {}, recipe={"kind": "probe"}, summary={}, inputs=())


def _publish(
    store: Store, folder: Path, kind: str, artifact_id: str, contents: dict[str, Any], *, recipe: dict[str, Any],
    summary: dict[str, Any], inputs: tuple[InputEntry, ...],
) -> Artifact:  # fmt: skip
    folder.mkdir(exist_ok=True)
    files = []
    for name, content in contents.items():
        if isinstance(content, pa.Table):
            pq.write_table(content, folder / name)
        else:
            (folder / name).write_text(json.dumps(content))
        files.append(upload(store, f"{kind}/{artifact_id}", name, folder / name))
    write_manifest(
        store,
        f"{kind}/{artifact_id}",
        Manifest(
            kind=kind,
            id=artifact_id,
            fingerprint="1",
            format_version=FORMAT_VERSION[kind],
            recipe=recipe,
            inputs=inputs,
            summary=summary,
            files=files,
        ),
    )
    found = find_artifact(store, kind, artifact_id)
    assert found
    return found
