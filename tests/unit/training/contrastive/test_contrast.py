"""Contrastive training in this process: it learns, resumes to the bit, and exports what other libraries load."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from clinical_modernbert.artifacts import Artifact, Store, open_store
from clinical_modernbert.encoder import load_export
from clinical_modernbert.errors import ModelError, RecipeError
from clinical_modernbert.training.contrastive import loop
from clinical_modernbert.training.launch import contrast_in_process
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, BertTokenizerFast

from tests.helpers.pairs import publish_tiny_pairs, tiny_contrast_plan
from tests.helpers.tiny import save_tiny_model

TEXTS = ["failure of the kidney", "kidney failure, unspecified", "skin burn"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "store"))
    publish_tiny_pairs(store)
    return store


@pytest.fixture
def modernbert(tmp_path: Path) -> Path:
    save_tiny_model(tmp_path / "modernbert", texts=TEXTS)
    return tmp_path / "modernbert"


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A BERT with dropout, so that a repeated pass has to repeat it."""
    folder = tmp_path / "bert"
    folder.mkdir()
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789,"]
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)])
    )
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=5 + 2 * len(letters), max_position_embeddings=64, **shape)).save_pretrained(folder)
    return folder


def losses(model: Artifact) -> list[float]:
    return [point["loss"] for point in json.loads(model.file("curve.json").read_text()) if "loss" in point]


def weights(model: Artifact) -> dict[str, torch.Tensor]:
    return load_file(model.file("model/model.safetensors"))


def test_it_learns_and_says_what_it_held_out(store: Store, modernbert: Path) -> None:
    model = contrast_in_process(tiny_contrast_plan(store, modernbert))

    summary = model.summary
    assert np.mean(losses(model)[-3:]) < 0.8 * losses(model)[0]
    assert summary["split"] == "train" and {"pair_loss", "pair_recall1"} <= set(summary["held_out"])
    assert summary["head"]["pooling"] == "mean" and summary["start"] == "modernbert"
    card = model.file("model/README.md").read_text()
    assert "trained without the held-out concepts" in card and "| conditions | 1 |" in card
    assert "on up to " in card and "trained on too" not in card
    shipped = contrast_in_process(tiny_contrast_plan(store, modernbert, "training.split=all", name="shipped"))
    assert shipped.summary["initial_weights"] == summary["initial_weights"]
    assert shipped.summary["row_order"] != summary["row_order"]  # other pairs
    assert shipped.summary["held_out"] == {}
    card = shipped.file("model/README.md").read_text()
    assert "the model to use" in card and "| held-out pairs, trained on too |" in card


@pytest.mark.parametrize("encoder", ["modernbert", "bert"])
def test_memory_flat_batches_change_nothing_but_rounding(
    store: Store, encoder: str, request: pytest.FixtureRequest
) -> None:
    """The gradient comes from vectors that were computed twice; BERT's dropout must be the same both times."""
    folder = request.getfixturevalue(encoder)
    settings = ("training.num_steps=6", "vectors.matryoshka_dims=[16]")
    whole = contrast_in_process(
        tiny_contrast_plan(store, folder, *settings, "scaling.micro_batch_pairs=16", name="whole")
    )
    parts = contrast_in_process(
        tiny_contrast_plan(store, folder, *settings, "scaling.micro_batch_pairs=4", name="parts")
    )
    if encoder == "modernbert":  # without dropout
        assert losses(parts) == pytest.approx(losses(whole), abs=1e-4)
    again = contrast_in_process(
        tiny_contrast_plan(store, folder, *settings, "scaling.micro_batch_pairs=4", name="again")
    )
    assert losses(again) == losses(parts)


def test_hard_negatives_that_a_model_finds_are_trained_in_memory_flat_batches(store: Store, modernbert: Path) -> None:
    negatives = {"method": "model", "model": str(modernbert), "per_pair": 2, "margin": 0}
    pairs = publish_tiny_pairs(store, "hard", negatives=negatives)
    settings = ("pairs=hard", "training.num_steps=4", "training.split=all", "vectors.matryoshka_dims=[16]")
    whole, parts, without = (
        contrast_in_process(tiny_contrast_plan(store, modernbert, *settings, *others, name=f"run{number}"))
        for number, others in enumerate(((), ("scaling.micro_batch_pairs=4",), ("pairs=tiny",)))
    )

    assert pairs.summary["negatives"]["negatives"] > 60
    assert pairs.manifest.inputs[0].name == "negatives.model"
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-4)
    assert losses(whole)[0] > losses(without)[0]  # more to tell the positive from


def test_a_killed_run_resumes_to_the_bit(store: Store, bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contrast_in_process(tiny_contrast_plan(store, bert, name="whole"))
    plan = tiny_contrast_plan(store, bert, name="killed")
    real, steps = loop.contrastive_step, []

    def dies_at_step_9(*args: object, step: int, **kwargs: object) -> object:
        if step == 9 and 9 not in steps:
            steps.append(step)
            raise KeyboardInterrupt
        steps.append(step)
        return real(*args, step=step, **kwargs)

    monkeypatch.setattr(loop, "contrastive_step", dies_at_step_9)
    with pytest.raises(KeyboardInterrupt):
        contrast_in_process(plan)
    resumed = contrast_in_process(plan)

    assert steps[10] in (4, 8)  # the newest checkpoint whose upload had ended
    assert losses(resumed) == losses(whole)
    for digest in ("initial_weights", "row_order"):
        assert resumed.summary[digest] == whole.summary[digest]
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name


@pytest.mark.parametrize("encoder", ["modernbert", "bert"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_export_loads_in_sentence_transformers_and_in_our_encoder(
    store: Store, encoder: str, pooling: str, request: pytest.FixtureRequest
) -> None:
    library = pytest.importorskip("sentence_transformers")
    plan = tiny_contrast_plan(
        store,
        request.getfixturevalue(encoder),
        "training.num_steps=2",
        f"vectors.pooling={pooling}",
        "vectors.matryoshka_dims=[16]",
    )
    folder = contrast_in_process(plan).folder("model")

    assert "scale them to length 1 after that" in (folder / "README.md").read_text()
    ours = load_export(folder)
    assert ours.head == "embedding"
    vectors = ours.embed(ours.tokenize(TEXTS), pooling=pooling, normalize=True)
    theirs = library.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(vectors, theirs, atol=1e-5)
    assert np.linalg.norm(theirs, axis=1) == pytest.approx(1, abs=1e-5)


def test_the_fingerprint_follows_the_content_of_the_encoder(store: Store, modernbert: Path, tmp_path: Path) -> None:
    plan = tiny_contrast_plan(store, modernbert)
    save_tiny_model(tmp_path / "other", texts=("quite", "other words"))
    assert tiny_contrast_plan(store, tmp_path / "other").fingerprint != plan.fingerprint
    assert tiny_contrast_plan(store, modernbert, "scaling.micro_batch_pairs=4").fingerprint == plan.fingerprint


def test_it_starts_from_a_model_of_the_store(store: Store, modernbert: Path) -> None:
    first = contrast_in_process(
        tiny_contrast_plan(store, modernbert, "training.num_steps=2", "training.split=all", name="first")
    )
    plan = tiny_contrast_plan(store, "first", "training.num_steps=2", name="second")
    by_address = tiny_contrast_plan(store, first.uri, "training.num_steps=2", name="second")
    assert by_address.fingerprint == plan.fingerprint
    second = contrast_in_process(plan)
    assert second.summary["start"] == first.manifest.id
    assert {entry.id for entry in second.manifest.inputs if entry.name == "init"} == {f"model/{first.manifest.id}"}
    card = second.file("model/README.md").read_text()
    assert f"knows them: `{first.manifest.id}` trained on them" in card and "the twin" not in card


def test_what_cannot_work_is_refused_by_name(store: Store, modernbert: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"micro_batch_pairs=3 must divide"):
        tiny_contrast_plan(store, modernbert, "scaling.micro_batch_pairs=3")
    with pytest.raises(ModelError, match=r"vectors.matryoshka_dims=\[32\] must be below the width of .*, 32"):
        contrast_in_process(tiny_contrast_plan(store, modernbert, "vectors.matryoshka_dims=[32]"))
    with pytest.raises(RecipeError, match="init: cannot load 'no/such-model': it is no folder here"):
        tiny_contrast_plan(store, "no/such-model")
    pickled = shutil.copytree(modernbert, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"cannot load a AutoModel from pickled: .*no file named model\.safetensors"):
        contrast_in_process(tiny_contrast_plan(store, pickled))
