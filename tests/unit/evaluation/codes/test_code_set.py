"""Codes are sampled once for the map and the evaluation, and held out as their corpus says; an untrained encoder repeats."""

from pathlib import Path

import numpy as np
import pytest
from clinical_modernbert.artifacts import Artifact, InputEntry, make_plan, open_store, write_manifest
from clinical_modernbert.corpus import is_held_out
from clinical_modernbert.corpus.pairs.build import build_pairs, pair_inputs
from clinical_modernbert.corpus.pairs.unseen import history_before
from clinical_modernbert.encoder import build_model, load_encoder
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.evaluation.codes.code_set import code_set, held_out_by_pairs, held_out_codes
from clinical_modernbert.evaluation.codes.map import map_codes
from clinical_modernbert.evaluation.codes.vectors import encoder_vectors, untrained
from clinical_modernbert.recipe import MapRecipe, MergeRecipe, PairsRecipe, PretrainRecipe
from clinical_modernbert.recipe.corpus import HeldOutSection
from clinical_modernbert.tokenizer import special_ids
from clinical_modernbert.training.corpora import merge_plan
from clinical_modernbert.training.launch import pretrain_in_process
from clinical_modernbert.training.merge import merge

from tests.helpers.pairs import publish_tiny_pairs
from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory):
    store = open_store(str(tmp_path_factory.mktemp("store")))
    publish_tiny_corpus(store)
    pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=1"))
    return store


def test_a_sample_is_fixed_by_its_seed_and_keeps_the_tables_order() -> None:
    whole, sample = (code_set("icd9cm", max_codes=number, seed=3) for number in (None, 200))
    assert len(sample) == 200 and sample == code_set("icd9cm", max_codes=200, seed=3)
    positions = [whole.entries.index(entry) for entry in sample.entries]
    assert positions == sorted(positions)
    assert sample != code_set("icd9cm", max_codes=200, seed=4)
    # Chapters are numbered in the order of their ids.
    names = sorted({entry.chapter_id for entry in sample.entries})
    assert sample.chapters_N.tolist() == [names.index(entry.chapter_id) for entry in sample.entries]
    assert len(sample.categories) == 200 and set(sample.categories) < set(whole.categories)


def test_an_untrained_encoder_is_the_model_before_its_first_step(store) -> None:
    plan = make_plan(MapRecipe(name="m", model="tiny"), store)
    model = plan.artifacts["model"]
    recipe = PretrainRecipe.model_validate(model.manifest.recipe)
    encoder = load_encoder(model.folder("model"))
    first = build_model(
        recipe.model,
        vocabulary_size=encoder.model.config.vocab_size,
        special_ids=special_ids(encoder.tokenizer),
        seed=recipe.training.seed,
    ).state_dict()
    drawn = untrained(encoder, seed=recipe.training.seed)
    assert all((weight == first[name]).all() for name, weight in drawn.model.state_dict().items())
    vectors = [
        encoder_vectors(each, ["renal failure"], pooling="cls", max_batch_tokens=64) for each in (encoder, drawn)
    ]
    assert not np.allclose(*vectors)


def test_codes_are_held_out_as_the_models_corpus_says(store, tmp_path: Path) -> None:
    model = make_plan(MapRecipe(name="m", model="tiny"), store).artifacts["model"]
    codes = code_set("icd9cm", max_codes=400, seed=0)
    held_out_N = held_out_codes(codes, model)
    assert held_out_N is not None and held_out_N.shape == (400,)
    by_category = {}
    for category, is_out in zip(codes.categories, held_out_N.tolist(), strict=True):
        assert by_category.setdefault(category, is_out) == is_out


def test_a_map_without_the_models_corpus_is_refused(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    publish_tiny_corpus(store)
    pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=1"))
    store.clear("corpus/")
    with pytest.raises(ArtifactError, match="its corpus or pair set is not in"):
        map_codes(make_plan(MapRecipe(name="m", model="tiny", max_codes=100), store))


def test_an_averaged_model_has_a_map(tmp_path: Path) -> None:
    """Its recipe is no training's."""
    store = open_store(str(tmp_path))
    publish_tiny_corpus(store)
    for seed, name in enumerate(("one", "two")):
        pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=1", f"training.seed={seed}", name=name))
    sources = [{"source": "one"}, {"source": "two"}]
    values = {"name": "both", "corpus": "tiny", "models": sources, "sequence_length": 64, "max_rows": 8}
    merge(merge_plan(MergeRecipe.model_validate(values), store))
    made = map_codes(make_plan(MapRecipe(name="m", model="both", max_codes=100, num_iterations=50), store))
    assert made.summary["purity"]["untrained"] > 0


def test_codes_are_held_out_as_the_models_pair_set_says(tmp_path: Path) -> None:
    """ICD-10-CM goes with the ICD-9-CM category that leads to it; a model trained on every pair held out nothing."""
    store, section = open_store(str(tmp_path / "store")), HeldOutSection(fraction=0.2, seed=0)
    out, kept = (
        next(n for n in range(1, 140) if is_held_out(f"icd9cm:{n:03d}", section) == held) for held in (True, False)
    )
    (tmp_path / "gem.txt").write_text(f"{out:03d}0  A000  00000\n{kept:03d}0  A010  00000\n")
    (tmp_path / "icd9.txt").write_text(f"{out:03d}0  Blue fever\n{kept:03d}0  Red fever\n")
    (tmp_path / "icd10.txt").write_text("A000    Fever, blue, new\nA010    Fever, red, new\n")
    paths = {"path": "gem.txt", "icd9_path": "icd9.txt", "icd10_path": "icd10.txt"}
    recipe = PairsRecipe.model_validate(
        {"name": "p", "data": str(tmp_path), "sources": [{"type": "gem", "name": "gem", **paths}]}
    )
    pairs = build_pairs(make_plan(recipe, store, raw_inputs=pair_inputs(recipe)))
    codes = code_set("icd10cm", max_codes=None, seed=0)

    def marked(split: str) -> set[str]:
        entry = InputEntry(name="pairs", id=f"pairs/{pairs.manifest.id}", digest=pairs.manifest.digest)
        settings = {"training": {"split": split}}
        manifest = pairs.manifest.model_copy(update={"inputs": (entry,), "recipe": settings, "kind": "model"})
        found = held_out_codes(codes, Artifact(store=store, manifest=manifest, prefix="model/m"))
        assert found is not None
        by_pairs = held_out_by_pairs(codes.categories, Artifact(store=store, manifest=manifest, prefix="model/m"))
        assert by_pairs == {
            category for category, is_out in zip(codes.categories, found.tolist(), strict=True) if is_out
        }
        return {category for category, is_out in zip(codes.categories, found.tolist(), strict=True) if is_out}

    held_out = marked("train")
    assert "icd10cm:A00" in held_out and "icd10cm:A01" not in held_out
    assert marked("all") == set()


def test_what_a_model_before_it_trained_on_is_seen(tmp_path: Path) -> None:
    """A twin that starts from a model of every pair, or learns from one, held out nothing; a lost model may have seen all."""
    shared = open_store(str(tmp_path / "pairs"))
    pairs = publish_tiny_pairs(shared)

    def model(name: str, split: str, *before: InputEntry) -> Artifact:
        own = InputEntry(name="pairs", id=f"pairs/{pairs.manifest.id}", digest=pairs.manifest.digest)
        manifest = pairs.manifest.model_copy(
            update={
                "kind": "model", "id": name, "inputs": (own, *before), "recipe": {"training": {"split": split}}, "files": ()
            }
        )  # fmt: skip
        return Artifact(shared, write_manifest(shared, f"model/{name}", manifest), f"model/{name}")

    def entry(of: Artifact, field: str = "init", *, address: bool = False) -> InputEntry:
        return InputEntry(name=field, id=of.uri if address else f"model/{of.manifest.id}", digest=of.manifest.digest)

    categories = [f"icd9cm:{n:03d}" for n in range(1, 140)]
    every, clean = model("every-1", "all"), model("clean-1", "train")
    held_out = held_out_by_pairs(categories, clean)
    assert held_out
    assert held_out_by_pairs(categories, model("next-1", "train", entry(clean))) == held_out
    once = model("once-1", "train", entry(every))
    for leaked in (entry(every), entry(once), entry(every, "training.teacher.model"), entry(every, address=True)):
        assert held_out_by_pairs(categories, model("leaked-1", "train", leaked)) == set()
    assert history_before([entry(once)], shared).trained_on(held_out) == ("every-1",)
    gone = InputEntry(name="init", id="model/gone-1", digest="0" * 64)
    assert held_out_by_pairs(categories, model("lost-1", "train", gone)) == set()
    package = InputEntry(name="init", id="package:some/model", digest="0" * 64)
    assert held_out_by_pairs(categories, model("outside-1", "train", package)) == held_out
