"""bfloat16 for inference: the weights of the encoder's layers, admitted by a comparison with float32.

Weights and the values between the products of a layer have bfloat16. The residual stream, norms, softmax, pooling and heads stay
in float32: it is the sum over all layers that rounding would damage. A model is not served like this on trust: its vectors of 50
generated notes are compared with those in float32 first. Training has its own way (``precision.products_in``).
"""

import copy
import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from clinical_modernbert.encoder.embed import Agreement, Encoder
from clinical_modernbert.encoder.linear import onednn, packed_copy
from clinical_modernbert.encoder.precision import has_bfloat16
from clinical_modernbert.encoder.windows import cut
from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe.vocabulary import InferencePrecision, Pooling
from clinical_modernbert.sources.generated.notes import make_note

NUM_TEXTS = 50
MIN_COSINE = 0.999
# Lengths of the compared texts in tokens, from a search to a paragraph.
_LENGTHS = (8, 16, 32, 64, 128)
_NEIGHBOURS = 10

log = logging.getLogger(__name__)


class Bfloat16Linear(torch.nn.Linear):
    """A linear layer with its weight in bfloat16. The output is float32, or stays bfloat16 between the products of a layer."""

    _packed: torch.Tensor | None
    _stays: bool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.to(torch.bfloat16)
        if self._packed is not None and x.dim() > 1 and x.numel() and x.device.type == "cpu":
            found = onednn(rows, self._packed, self.bias)
        else:
            found = F.linear(rows, self.weight, self.bias)
        return found if self._stays else found.float()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the packed copy, which can be neither copied nor pickled."""
        return {**self.__dict__, "_packed": None}


def choose_precision(encoder: Encoder, wanted: InferencePrecision, *, pooling: Pooling) -> Encoder:
    """Return the encoder in the wanted precision; ``auto`` is bfloat16 where the hardware has it and the vectors agree.

    Raises ``ModelError`` if bfloat16 was asked for and is not possible.
    """
    if wanted == "float32":
        return encoder
    if not has_bfloat16(encoder.model.device):
        problem = f"this {encoder.model.device.type.upper()} does not multiply bfloat16 (avx512_bf16, amx_bf16 or an A100 would)"
    else:
        narrow = replace(encoder, model=to_bfloat16(copy.deepcopy(encoder.model)), precision="bfloat16")
        agreement = compare(encoder, narrow, pooling=pooling)
        if agreement.lowest_cosine >= MIN_COSINE:
            return replace(narrow, agreement=agreement)
        problem = (
            f"the lowest cosine of {agreement.num_texts} texts' vectors with those in float32 is {agreement.lowest_cosine:.5f}, "
            f"below {MIN_COSINE}; they share {agreement.overlap_at_10:.3f} of their ten neighbours"
        )
    if wanted == "bfloat16":
        raise ModelError(f"precision=bfloat16: {problem}; set precision=float32")
    log.warning("precision=auto is float32: %s", problem)
    return encoder


def to_bfloat16(model: Any) -> Any:
    """Change the layers of the model's encoder in place, and return the model; embeddings and heads stay in float32."""
    stays = {id(layer) for layer in _inside_layers(model)}
    layers: list[Any] = [layer for layer in model.base_model.modules() if isinstance(layer, torch.nn.Linear)]
    for layer in layers:
        for name, parameter in list(layer.named_parameters(recurse=False)):
            setattr(layer, name, torch.nn.Parameter(parameter.detach().bfloat16(), requires_grad=False))
        native = layer.weight.device.type == "cpu" and has_bfloat16(layer.weight.device)
        layer.__class__ = Bfloat16Linear
        layer._packed = packed_copy(layer.weight) if native else None
        layer._stays = id(layer) in stays
    return model


def compare(exact: Encoder, other: Encoder, *, pooling: Pooling) -> Agreement:
    """Return how the two encoders' vectors of 50 generated notes agree."""
    notes = exact.tokenize([make_note(0, number).text for number in range(NUM_TEXTS)])
    lengths = islice(cycle(_LENGTHS), NUM_TEXTS)
    ids = [cut(note, min(length, exact.max_tokens)) for note, length in zip(notes, lengths, strict=True)]
    theirs_ND, mine_ND = (e.embed(ids, pooling=pooling, normalize=True, max_batch_tokens=2048) for e in (exact, other))
    return Agreement(
        num_texts=NUM_TEXTS,
        lowest_cosine=float((theirs_ND * mine_ND).sum(1).min()),
        overlap_at_10=neighbour_overlap(theirs_ND, mine_ND),
    )


def neighbour_overlap(one_ND: NDArray[np.float32], other_ND: NDArray[np.float32]) -> float:
    """Return the share of each text's ten nearest neighbours that both sets of unit vectors have, mean over the texts."""
    shared = [len(a & b) for a, b in zip(_neighbours(one_ND), _neighbours(other_ND), strict=True)]
    return float(np.mean(shared)) / min(_NEIGHBOURS, len(one_ND) - 1)


def _neighbours(vectors_ND: NDArray[np.float32]) -> list[set[int]]:
    similarity_NN = vectors_ND @ vectors_ND.T
    np.fill_diagonal(similarity_NN, -np.inf)
    count = min(_NEIGHBOURS, len(vectors_ND) - 1)
    return [set(row.tolist()) for row in np.argsort(-similarity_NN, axis=1)[:, :count]]


def _inside_layers(model: Any) -> Iterator[torch.nn.Module]:
    """Yield the layers whose output goes into another product: those of a ModernBERT, which adds them to float32 itself."""
    if model.config.model_type == "modernbert":
        for layer in model.base_model.layers:
            yield from layer.modules()
