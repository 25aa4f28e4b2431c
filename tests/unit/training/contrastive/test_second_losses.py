"""The masked-language term and the teacher of a contrastive run: equal to a plain computation, resumed to the bit, exported."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clinical_modernbert.artifacts import Artifact, Store, open_store, resolve
from clinical_modernbert.encoder import load_export
from clinical_modernbert.errors import ModelError, RecipeError
from clinical_modernbert.training.batches import WorkerShare
from clinical_modernbert.training.contrastive import loop
from clinical_modernbert.training.contrastive.loss import contrastive_loss, same_meaning
from clinical_modernbert.training.contrastive.start import start_contrast
from clinical_modernbert.training.contrastive.step import contrastive_step
from clinical_modernbert.training.launch import contrast_in_process, pretrain_in_process, train_job
from clinical_modernbert.training.worker import Worker
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModelForMaskedLM, AutoTokenizer

from tests.helpers.pairs import publish_tiny_pairs, tiny_contrast_plan
from tests.helpers.tiny import publish_tiny_corpus, save_tiny_model, tiny_pretrain_plan

MASKED = (
    "corpus=tiny",
    "training.masked_language={weight: 0.5, batch_rows: 4, sequence_length: 64}",
    "scaling.micro_batch_rows=2",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with pairs, a corpus, ``base`` (a model that was trained on the corpus for two steps), and a teacher's folder."""
    root = tmp_path_factory.mktemp("second")
    store = open_store(str(root / "store"))
    publish_tiny_pairs(store)
    publish_tiny_corpus(store)
    pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=2", "checkpoint.every_steps=null", name="base"))
    # Half the width of the base, and another tokenizer.
    save_tiny_model(root / "teacher", texts=("kidney failure", "burn of the skin"))
    return root


@pytest.fixture
def store(root: Path) -> Store:
    return open_store(str(root / "store"))


@pytest.fixture
def taught(root: Path) -> str:
    return f"training.teacher={{model: {root / 'teacher'}, weight: 2, temperature: 0.1, pooling: mean}}"


def curve(model: Artifact, name: str) -> list[float]:
    return [point[name] for point in json.loads(model.file("curve.json").read_text()) if "loss" in point]


def plain_model(folder: Path) -> tuple[Any, Any]:
    model = AutoModelForMaskedLM.from_pretrained(folder, attn_implementation="eager")
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def mean_vectors(model: Any, tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    found = [model.model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in texts]
    return torch.stack(found)


def masked_loss(model: Any, rows: WorkerShare) -> torch.Tensor:
    """The mean over the masked tokens, each segment read alone."""
    losses = []
    for batch in rows.micro_batches:
        labels = torch.full_like(batch.input_ids_T, -100)
        labels[batch.masked_N] = batch.labels_N
        starts = torch.nonzero(batch.layout.position_ids_1T[0] == 0).flatten().tolist()
        for first, end in zip(starts, [*starts[1:], len(labels)], strict=True):
            logits = model(input_ids=batch.input_ids_T[None, first:end]).logits[0]
            losses.append(cross_entropy(logits, labels[first:end], reduction="none")[labels[first:end] >= 0])
    return torch.cat(losses).mean()


def divergence(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    target = teacher.softmax(1)
    return (target * (target.log() - student.log_softmax(1))).sum(1).mean()


def test_a_step_equals_a_plain_computation(store: Store, root: Path, taught: str) -> None:
    """Losses and the norm of the gradient, by transformers' own models, one text and one segment at a time."""
    plan = tiny_contrast_plan(store, "base", *MASKED, taught, "scaling.micro_batch_pairs=4", name="plain")
    run = start_contrast(train_job(plan), Worker(rank=0, world_size=1, device=torch.device("cpu")))
    pairs, rows = run.read(0, wait=bool)
    found = contrastive_step(run.context, pairs, rows, step=0, learning_rate=0.0)

    sides = (pairs.anchors, pairs.positives)
    model, tokenizer = plain_model(resolve(store, "model", "base").folder("model"))
    mine = [mean_vectors(model, tokenizer, texts) for texts in sides]
    theirs = [mean_vectors(*reader, texts).detach() for reader in [(plain_model(root / "teacher"))] for texts in sides]
    names = ("anchor_concepts_NL", "positive_concepts_NL", "anchor_texts_N", "positive_texts_N")
    excluded = same_meaning(*(torch.from_numpy(getattr(pairs, name)) for name in names))
    pair_loss = contrastive_loss(mine[0], mine[1], excluded_NN=excluded, temperature=0.05)
    student, teacher = (normalize(a) @ normalize(p).T for a, p in (mine, theirs))
    teacher_loss = divergence(student / 0.05, teacher / 0.1) + divergence(student.T / 0.05, teacher.T / 0.1)
    assert rows is not None and len(rows.micro_batches) == 2
    parts = (pair_loss, teacher_loss / 2, masked_loss(model, rows))

    got = (found.pair_loss, found.teacher_loss, found.masked_language_loss)
    assert got == pytest.approx([float(part.detach()) for part in parts], rel=1e-4)
    total = parts[0] + 2 * parts[1] + 0.5 * parts[2]
    assert found.loss == pytest.approx(float(total.detach()), rel=1e-4)
    gradients = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
    norm = torch.cat([gradient.reshape(-1) for gradient in gradients if gradient is not None]).norm()
    assert found.gradient_norm == pytest.approx(float(norm), rel=1e-3)


def test_a_run_with_both_resumes_to_the_bit(store: Store, taught: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (*MASKED, taught, "training.num_steps=8", "scaling.micro_batch_pairs=8")
    whole = contrast_in_process(tiny_contrast_plan(store, "base", *settings, name="whole"))
    real, killed = loop.contrastive_step, []

    def dies_at_step_6(*args: object, step: int, **kwargs: object) -> object:
        if step == 6 and not killed:
            killed.append(step)
            raise KeyboardInterrupt
        return real(*args, step=step, **kwargs)

    monkeypatch.setattr(loop, "contrastive_step", dies_at_step_6)
    plan = tiny_contrast_plan(store, "base", *settings, name="killed")
    with pytest.raises(KeyboardInterrupt):
        contrast_in_process(plan)
    resumed = contrast_in_process(plan)

    for name in ("loss", "pair_loss", "masked_language_loss", "teacher_loss"):
        assert curve(resumed, name) == curve(whole, name), name
    one, other = (load_file(model.file("model/model.safetensors")) for model in (whole, resumed))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    card = whole.file("model/README.md").read_text()
    assert "masked-language" in card and "teacher" in card
    assert {"corpus", "init", "training.teacher.model"} <= {entry.name for entry in whole.manifest.inputs}


def test_the_masked_language_head_is_trained_scored_and_exported(store: Store) -> None:
    model = contrast_in_process(tiny_contrast_plan(store, "base", *MASKED, "optimizer.learning_rate=3e-3", name="kept"))
    losses = curve(model, "masked_language_loss")
    assert np.mean(losses[-3:]) < losses[0]
    points = [point for point in json.loads(model.file("curve.json").read_text()) if "held_out" in point]
    assert [point["step"] for point in points] == [-1, 5, 11]
    assert points[-1]["held_out"]["uniform_loss"] < points[0]["held_out"]["uniform_loss"]
    assert {"pair_recall1", "entity_top1"} <= set(points[0]["held_out"])

    folder, text = model.folder("model"), ["failure of the kidney"]
    ours = load_export(folder)
    assert ours.head == "masked-lm"
    vectors = ours.embed(ours.tokenize(text), pooling="mean", normalize=True)
    library = pytest.importorskip("sentence_transformers")
    np.testing.assert_allclose(vectors, library.SentenceTransformer(str(folder), device="cpu").encode(text), atol=1e-5)


def test_what_cannot_work_is_refused_by_name(store: Store, root: Path) -> None:
    with pytest.raises(RecipeError, match="masked-language loss needs a corpus"):
        tiny_contrast_plan(store, "base", MASKED[1])
    with pytest.raises(RecipeError, match="masked-language loss needs a corpus"):
        tiny_contrast_plan(store, "base", "corpus=tiny")
    with pytest.raises(
        RecipeError, match=r"micro_batch_rows=3 must divide the rows of a worker, training\.masked_lang"
    ):
        tiny_contrast_plan(store, "base", *MASKED, "scaling.micro_batch_rows=3")
    with pytest.raises(ModelError, match=r"has another tokenizer than init: build the corpus with tokenizer\.base"):
        contrast_in_process(tiny_contrast_plan(store, root / "teacher", *MASKED))
    bare = contrast_in_process(tiny_contrast_plan(store, "base", "training.num_steps=1", name="bare"))
    with pytest.raises(
        ModelError, match=r"needs a ModernBERT with its masked-language head as init: bare-.* keys missing"
    ):
        contrast_in_process(tiny_contrast_plan(store, "bare", *MASKED))
    with pytest.raises(ModelError, match=r"training\.teacher\.pooling: teacher does not say how it pools"):
        contrast_in_process(tiny_contrast_plan(store, "base", f"training.teacher={{model: {root / 'teacher'}}}"))
    # The folder of a contrastive run says how it pools.
    from_store = tiny_contrast_plan(
        store, "base", "training.teacher={model: bare}", "training.num_steps=1", name="pupil"
    )
    assert bare.manifest.digest in {entry.digest for entry in from_store.inputs}
    assert curve(contrast_in_process(from_store), "teacher_loss")[0] > 0
