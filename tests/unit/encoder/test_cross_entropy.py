"""The chunked loss equals the one over the whole logits matrix, in value and in every gradient."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from clinical_modernbert.encoder import SegmentLayout, decoded_cross_entropy, masked_loss_sum
from clinical_modernbert.encoder.packed import PackedBatch
from transformers import ModernBertForMaskedLM

TOKENS, WIDTH, VOCABULARY = 37, 24, 101


def problem(num_tokens: int = TOKENS) -> tuple[torch.Tensor, torch.nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    hidden = (
        20 * torch.randn(num_tokens, WIDTH)
    ).requires_grad_()  # large logits: exp without its maximum would overflow
    return hidden, torch.nn.Linear(WIDTH, VOCABULARY), torch.randint(0, VOCABULARY, (num_tokens,))


@pytest.mark.parametrize("chunk", [1, 10, 36, 37, 1000])
def test_loss_and_gradients_equal_torch_s(chunk: int) -> None:
    found = {}
    for mine in (True, False):
        hidden, decoder, labels = problem()
        if mine:
            loss = decoded_cross_entropy(hidden, decoder, labels, chunk_tokens=chunk)
        else:
            loss = F.cross_entropy(decoder(hidden), labels, reduction="sum")
        (loss / 7).backward()
        found[mine] = [loss.detach(), hidden.grad, decoder.weight.grad, decoder.bias.grad]
    for ours, theirs in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_gradients_add_up_over_micro_batches_of_a_tied_decoder() -> None:
    found = {}
    for mine in (True, False):
        hidden, decoder, labels = problem()
        for part in (slice(0, 20), slice(20, None)):
            states = hidden[part] + decoder.weight[labels[part]]  # the decoder's matrix is the embedding's too
            if mine:
                loss = decoded_cross_entropy(states, decoder, labels[part], chunk_tokens=8)
            else:
                loss = F.cross_entropy(decoder(states), labels[part], reduction="sum")
            loss.backward()
        found[mine] = [hidden.grad, decoder.weight.grad, decoder.bias.grad]
    for ours, theirs in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


def test_autocast_multiplies_in_bfloat16_and_keeps_the_loss_in_float32() -> None:
    hidden, decoder, labels = problem()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = decoded_cross_entropy(hidden, decoder, labels, chunk_tokens=10)
    loss.backward()
    exact = F.cross_entropy(decoder(hidden), labels, reduction="sum")
    assert loss.dtype == torch.float32 and decoder.weight.grad.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-2)
    assert loss.item() != exact.item()


def test_nothing_masked_is_no_loss_and_no_gradient() -> None:
    hidden, decoder, labels = problem(0)
    loss = decoded_cross_entropy(hidden, decoder, labels)
    loss.backward()
    assert loss.item() == 0.0
    assert not decoder.weight.grad.any()


def test_it_goes_backward_once() -> None:
    hidden, decoder, labels = problem()
    loss = decoded_cross_entropy(hidden, decoder, labels)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        loss.backward()


def test_the_whole_model_s_gradient_equals_transformers_on_each_document_alone(
    make_model: Callable[..., ModernBertForMaskedLM],
) -> None:
    lengths = [30, 7, 150, 30, 81]
    ids_T = torch.randint(5, 500, (sum(lengths),), generator=torch.Generator().manual_seed(0))
    masked_N = torch.arange(0, sum(lengths), 5)
    labels_T = torch.full_like(ids_T, -100)
    labels_T[masked_N] = ids_T[masked_N]
    mine, theirs = make_model(seed=2), make_model(seed=2)
    theirs.set_attn_implementation("eager")
    packed = PackedBatch(ids_T, SegmentLayout.build(lengths), masked_N=masked_N, labels_N=ids_T[masked_N])
    (masked_loss_sum(mine, packed) / len(masked_N)).backward()
    for ids, labels in zip(ids_T.split(lengths), labels_T.split(lengths), strict=True):
        logits = theirs(input_ids=ids[None]).logits[0]
        (F.cross_entropy(logits, labels, reduction="sum") / len(masked_N)).backward()
    for (name, ours), reference in zip(mine.named_parameters(), theirs.parameters(), strict=True):
        scale = max(1.0, float(reference.grad.abs().max()))
        assert float((ours.grad - reference.grad).abs().max()) <= 1e-5 * scale, name
