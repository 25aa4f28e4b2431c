"""One way to run a model: packed and padded give what transformers gives for each text alone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from clinical_modernbert.encoder import load_export, load_with_new_head
from clinical_modernbert.encoder.forward import (
    first_states,
    logits,
    padded_states,
    passes,
    pool,
    states,
    vectors,
    word_logits,
)
from clinical_modernbert.recipe.vocabulary import HeadKind, Pooling
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

IDS = [[1, *range(10, 40), 2], [1, 7, 8, 2], [1, *range(50, 63), 2]]
LENGTHS = [len(ids) for ids in IDS]


@pytest.fixture(params=["modernbert", "bert"])
def folder(request: pytest.FixtureRequest, encoder_folders: dict[str, Path]) -> Path:
    return encoder_folders[request.param]


@pytest.fixture
def base(folder: Path) -> Any:
    return load_with_new_head(folder, "embedding").eval()


@pytest.mark.parametrize(
    ("head", "auto"), [("sequence", AutoModelForSequenceClassification), ("token", AutoModelForTokenClassification)]
)
@pytest.mark.parametrize("classifier_pooling", ["cls", "mean"])
def test_logits_are_transformers_own_for_each_text_alone_and_survive_saving(
    head: HeadKind, auto: Any, classifier_pooling: Pooling, folder: Path, tmp_path: Path
) -> None:
    model = load_with_new_head(folder, head, labels=["a", "b", "c"]).eval()
    if model.config.model_type == "modernbert":
        model.config.classifier_pooling = classifier_pooling
    with torch.inference_mode():
        together = logits(model, IDS)
    model.save_pretrained(tmp_path)
    plain = auto.from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert plain.config.id2label == {0: "a", 1: "b", 2: "c"}
    with torch.inference_mode():
        alone = [plain(input_ids=torch.tensor([ids])).logits[0] for ids in IDS]
    torch.testing.assert_close(
        together, torch.stack(alone) if head == "sequence" else torch.cat(alone), atol=1e-5, rtol=0
    )


@torch.inference_mode()
def test_states_and_vectors_see_their_own_text_only(base: Any) -> None:
    alone = [states(base, [ids]) for ids in IDS]
    expected = {"mean": torch.stack([s.mean(0) for s in alone]), "cls": torch.stack([s[0] for s in alone])}
    together = states(base, IDS)
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)
    torch.testing.assert_close(first_states(base, IDS), expected["cls"], atol=1e-5, rtol=0)
    for pooling, vectors_ND in expected.items():
        torch.testing.assert_close(pool(together, LENGTHS, pooling), vectors_ND, atol=1e-5, rtol=0)
        torch.testing.assert_close(vectors(base, IDS, pooling=pooling), vectors_ND, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_gradients_flow_through_pooled_states(base: Any, pooling: Pooling) -> None:
    base.zero_grad()
    (pool(states(base, IDS), LENGTHS, pooling)[1] @ torch.arange(32.0)).backward()
    rows = base.get_input_embeddings().weight.grad.abs().sum(1)
    assert (rows[[1, 7, 8, 2]] > 0).all()
    assert not rows[IDS[0][1:-1]].any(), "the gradient of one text reached another"


@torch.inference_mode()
def test_a_modernbert_gives_the_same_states_padded_by_transformers(encoder_folders: dict[str, Path]) -> None:
    base = load_with_new_head(encoder_folders["modernbert"], "embedding").eval()
    packed = states(base, IDS)
    base.set_attn_implementation("sdpa")
    torch.testing.assert_close(padded_states(base, IDS), packed, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_words_at_chosen_tokens_are_those_of_the_whole_head(encoder_folders: dict[str, Path]) -> None:
    model = load_export(encoder_folders["modernbert"]).model
    found = word_logits(model, states(model, IDS)[[3, 5]])
    model.set_attn_implementation("eager")
    torch.testing.assert_close(found, model(input_ids=torch.tensor([IDS[0]])).logits[0, [3, 5]], atol=1e-5, rtol=0)


@given(lengths=st.lists(st.integers(1, 512), max_size=60))
def test_passes_hold_every_text_once_and_little_padding(lengths: list[int]) -> None:
    bert, modernbert = (SimpleNamespace(config=SimpleNamespace(model_type=name)) for name in ("bert", "modernbert"))
    divided = list(passes(bert, lengths))
    assert sorted(i for part in divided for i in part) == list(range(len(lengths)))
    for part in divided:
        padded = len(part) * max(lengths[i] for i in part)
        assert len(part) == 1 or padded <= sum(lengths) * 4 / 3
    assert list(passes(modernbert, lengths)) == ([list(range(len(lengths)))] if lengths else [])


def test_texts_of_many_lengths_are_hardly_padded() -> None:
    """In two passes, a batch of descriptions of 5 to 37 tokens was padded to nearly twice its tokens."""
    bert = SimpleNamespace(config=SimpleNamespace(model_type="bert"))
    lengths = [5 + 32 * i * i // 511**2 for i in range(512)]
    padded = sum(len(part) * max(lengths[i] for i in part) for part in passes(bert, lengths))
    assert padded <= 1.15 * sum(lengths)


def test_the_passes_of_one_long_text_among_short_ones() -> None:
    bert = SimpleNamespace(config=SimpleNamespace(model_type="bert"))
    assert list(passes(bert, [10, 100, 10, 10])) == [[1], [0, 2, 3]]
