"""Cross-entropy of a linear decoder without the whole logits matrix: a stretch of masked tokens at a time.

Forward makes each stretch's logits, takes from them the loss and at once the gradients, and lets them go: at ModernBERT's
vocabulary, N x V logits with their softmax and gradient are otherwise the largest tensors of a step.

Legend: N masked tokens, C tokens of a stretch, D hidden width, V vocabulary.
"""

from typing import Any

import torch

CHUNK_TOKENS = 512


class _DecodedCrossEntropy(torch.autograd.Function):
    """Summed loss with gradients for hidden states, decoder weight and bias."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor,
        labels_N: torch.Tensor,
        dtype: torch.dtype,
        chunk: int,
    ) -> torch.Tensor:
        wants = any(ctx.needs_input_grad[:3])
        weight = weight_VD.to(dtype)
        loss = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        hidden_grad = torch.empty_like(hidden_ND) if wants else None
        weight_grad = torch.zeros_like(weight_VD) if wants else None
        bias_grad = torch.zeros_like(bias_V) if wants else None
        for start in range(0, len(labels_N), chunk):
            hidden = hidden_ND[start : start + chunk].to(dtype)
            labels_C1 = labels_N[start : start + chunk, None]
            logits_CV = torch.addmm(bias_V.to(dtype), hidden, weight.t()).float()
            right_C1 = logits_CV.gather(1, labels_C1)
            total_C1 = torch.logsumexp(logits_CV, 1, keepdim=True)
            loss += (total_C1 - right_C1).sum()
            if hidden_grad is None or weight_grad is None or bias_grad is None:
                continue
            gradient_CV = logits_CV.sub_(total_C1).exp_()  # softmax, in the logits' own memory
            gradient_CV.scatter_add_(1, labels_C1, torch.full_like(right_C1, -1.0))
            bias_grad += gradient_CV.sum(0)
            cast = gradient_CV.to(dtype)
            hidden_grad[start : start + chunk] = cast @ weight
            if dtype == weight_grad.dtype:
                weight_grad.addmm_(cast.t(), hidden)
            else:
                weight_grad += cast.t() @ hidden
        ctx.save_for_backward(*(g for g in (hidden_grad, weight_grad, bias_grad) if g is not None))
        return loss

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> Any:
        (scale,) = outputs
        return (*(gradient * scale.to(gradient.dtype) for gradient in ctx.saved_tensors), None, None, None)


def decoded_cross_entropy(
    hidden_ND: torch.Tensor, decoder: torch.nn.Linear, labels_N: torch.Tensor, *, chunk_tokens: int = CHUNK_TOKENS
) -> torch.Tensor:
    """Return the cross-entropy summed over the N tokens, in nats and float32; multiplied in autocast's dtype where it is on."""
    kind = hidden_ND.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_ND.dtype
    with torch.autocast(kind, enabled=False):
        return _DecodedCrossEntropy.apply(  # type: ignore[no-untyped-call]  # torch types it so
            hidden_ND, decoder.weight, decoder.bias, labels_N, dtype, chunk_tokens
        )
