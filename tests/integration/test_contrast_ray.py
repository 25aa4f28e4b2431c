"""Contrastive training on Ray Train: two workers see the negatives of both, and give the losses of one."""

import json
import re
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import Artifact, open_store
from clinical_modernbert.demo.vectors import run_vectors
from clinical_modernbert.training.launch import contrast, contrast_in_process, pretrain_in_process

from tests.helpers.pairs import publish_tiny_pairs, tiny_contrast_plan
from tests.helpers.tiny import publish_tiny_corpus, save_tiny_model, tiny_pretrain_plan

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def curve(model: Artifact) -> list[float]:
    """Every loss of every step."""
    points = [point for point in json.loads(model.file("curve.json").read_text()) if "loss" in point]
    return [point[name] for point in points for name in ("loss", "pair_loss", "masked_language_loss", "teacher_loss")]


def test_two_workers_give_the_losses_of_one(tmp_path: Path) -> None:
    """With a masked-language term and a teacher."""
    store = open_store(str(tmp_path / "store"))
    publish_tiny_pairs(store)
    publish_tiny_corpus(store)
    pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=2", "checkpoint.every_steps=null", name="base"))
    save_tiny_model(tmp_path / "teacher", texts=("kidney failure", "burn of the skin"))
    settings = (
        "corpus=tiny",
        "training.masked_language={batch_rows: 4, sequence_length: 64}",
        f"training.teacher={{model: {tmp_path / 'teacher'}, pooling: mean}}",
    )
    one = contrast_in_process(tiny_contrast_plan(store, "base", *settings, name="one"))
    workers = ("scaling.num_workers=2", "scaling.micro_batch_pairs=4", "scaling.micro_batch_rows=1")
    two = contrast(tiny_contrast_plan(store, "base", *settings, *workers, name="two"))
    assert curve(two) == pytest.approx(curve(one), abs=1e-4)
    assert two.summary["held_out"] == pytest.approx(one.summary["held_out"], abs=1e-3)


def test_make_vectors_from_the_code_tables_to_the_last_line(tmp_path: Path) -> None:
    """From a tiny encoder instead of the packaged one, for two steps; pairs, look-up and questions are the real ones."""
    save_tiny_model(tmp_path / "init", texts=("kidney failure", "burn of the skin", "heart attack", "stroke"))
    short = ["training.num_steps=2", "training.batch_pairs=16", "scaling.num_workers=1", "held_out.max_pairs=16"]
    store = open_store(str(tmp_path / "store"))

    screen = run_vectors(store, data=None, overrides=[f"init={tmp_path / 'init'}", *short])

    assert re.search(r"^vectors crosswalk1=0\.\d{3} lay1=none purity=0\.\d{3}$", screen.splitlines()[-1])
    rows = {
        line.strip()[:24].strip(): line.split()[-7:] for line in screen.splitlines() if line.startswith("  encoder")
    }
    # The last table with these rows says what the first answers are: shares that add up to 1.
    assert [sum(map(float, rows[name])) for name in ("encoder before", "encoder after")] == pytest.approx(
        [1, 1], abs=0.005
    )
    assert "  kidney failure  " in screen and len(store.names("model")) == 2
