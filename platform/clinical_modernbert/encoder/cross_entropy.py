"""Cross-entropy of a linear decoder without the whole logits matrix: a chunk of masked tokens at a time.

At ModernBERT's vocabulary, N x V logits with their softmax and gradient would be the largest tensors of a step. Forward computes
the logits of a chunk, its loss and its gradients, and frees the logits. The price: backward runs once, and gradients are computed
even if only the loss is used, unless no input requires one.

Legend: N masked tokens, C tokens of a chunk, D hidden width, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from clinical_modernbert.encoder.linear import TrainedLinear, onednn

CHUNK_TOKENS = 512


@dataclass(frozen=True, slots=True)
class _Arithmetic:
    """How a decoder's products are computed."""

    dtype: torch.dtype
    chunk: int
    multiply: Callable[..., torch.Tensor]
    """``F.linear`` or oneDNN's product."""


class _DecodedCrossEntropy(torch.autograd.Function):
    """Summed loss with gradients for hidden states, decoder weight and bias."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor,
        labels_N: torch.Tensor,
        arithmetic: _Arithmetic,
    ) -> torch.Tensor:
        dtype, chunk, multiply = arithmetic.dtype, arithmetic.chunk, arithmetic.multiply
        # In place only by torch: oneDNN's product is a tensor of its own, which is added.
        in_place = multiply is F.linear and dtype == weight_VD.dtype
        needs_gradient = any(ctx.needs_input_grad[:3])
        weight, bias = weight_VD.to(dtype), bias_V.to(dtype)
        loss = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        if needs_gradient:
            hidden_grad = torch.empty_like(hidden_ND)
            weight_grad = torch.empty_like(weight_VD) if in_place else torch.zeros_like(weight_VD)
            bias_grad = torch.zeros_like(bias_V)
        for start in range(0, len(labels_N), chunk):
            hidden = hidden_ND[start : start + chunk].to(dtype)
            labels_C1 = labels_N[start : start + chunk, None]
            logits_CV = multiply(hidden, weight, bias).float()
            label_logit_C1 = logits_CV.gather(1, labels_C1)
            largest_C1 = logits_CV.amax(1, keepdim=True)
            # The memory of the logits now holds exp(logit - largest), later the gradient: softmax - one-hot.
            gradient_CV = logits_CV.sub_(largest_C1).exp_()
            total_C1 = gradient_CV.sum(1, keepdim=True)
            loss += (total_C1.log() + largest_C1 - label_logit_C1).sum()
            if not needs_gradient:
                continue
            gradient_CV.div_(total_C1).scatter_add_(1, labels_C1, torch.full_like(label_logit_C1, -1.0))
            bias_grad += gradient_CV.sum(0)
            cast_CV = gradient_CV.to(dtype)
            hidden_grad[start : start + chunk] = multiply(cast_CV, weight.t())
            if not in_place:
                weight_grad += multiply(cast_CV.t(), hidden.t())
            elif start == 0:
                torch.mm(
                    cast_CV.t(), hidden, out=weight_grad
                )  # the first chunk overwrites: no pass over V x D for zeros
            else:
                weight_grad.addmm_(cast_CV.t(), hidden)
        if needs_gradient:
            if not len(labels_N):
                weight_grad.zero_()
            ctx.gradients = hidden_grad, weight_grad, bias_grad
        return loss

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> Any:
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError(
                "decoded_cross_entropy supports one backward pass: its gradients were handed over in the first"
            )
        return (*(gradient.mul_(outputs[0].to(gradient.dtype)) for gradient in gradients), None, None)


def decoded_cross_entropy(
    hidden_ND: torch.Tensor, decoder: torch.nn.Linear, labels_N: torch.Tensor, *, chunk_tokens: int = CHUNK_TOKENS
) -> torch.Tensor:
    """Return the cross-entropy summed over N tokens, in nats and float32; products use autocast's dtype if it is on."""
    kind = hidden_ND.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_ND.dtype
    by_onednn = isinstance(decoder, TrainedLinear) and kind == "cpu" and dtype == torch.float32
    arithmetic = _Arithmetic(dtype, chunk_tokens, onednn if by_onednn else F.linear)
    with torch.autocast(kind, enabled=False):
        return _DecodedCrossEntropy.apply(  # type: ignore[no-untyped-call]  # torch types it so
            hidden_ND, decoder.weight, decoder.bias, labels_N, arithmetic
        )
