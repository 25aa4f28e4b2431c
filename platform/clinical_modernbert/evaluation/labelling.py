"""Fit an encoder to labelled items: fine-tune it with a head, or train a probe on its frozen vectors.

An item is what the model reads at once: a text or a pair of texts, or a window with a label for each of its words. All heads are
read here, so that a task kind only makes items and judges predictions.

Legend: N targets of all items or of a batch, C labels, D width of the encoder, T tokens of a batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from clinical_modernbert.encoder.forward import logits, pool, states
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.heads import load_base, load_head, mixed_precision
from clinical_modernbert.evaluation.label_attention import LabelAttentionModel
from clinical_modernbert.evaluation.results import Tuned
from clinical_modernbert.evaluation.tuning import Problem, by_length, linear_probe, tune_best_rate
from clinical_modernbert.recipe import RunRecipe
from clinical_modernbert.recipe.vocabulary import MANIFEST_KIND, HeadKind

Read = Callable[[Any, Sequence["Item"]], torch.Tensor]
"""(model, batch) -> one row for each target of the batch, in their order."""

Target = Literal["label", "label_set", "score"]
"""What a target has: one label, any number of labels, or a number."""

# transformers' names, which say how an endpoint turns outputs into scores; one label needs none.
_PROBLEM_TYPE = {"label_set": "multi_label_classification", "score": "regression"}


@dataclass(frozen=True, slots=True)
class Item:
    """A text or a window, as the model reads it."""

    ids: Sequence[int]
    """Tokens, [CLS] and [SEP] included."""
    labels: Sequence[float]
    """Number of each target's label. A text is one target: its label, all its labels, or its score."""
    positions: Sequence[int] = ()
    """Token of each target in ``ids``; empty for a text."""
    second_ids: Sequence[int] = ()
    """A second text, of which the probe sees the vector too."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Items of three parts with their labels."""

    head: HeadKind
    """``sequence``: a label for each text; ``token``: for each word."""
    labels: list[str]
    """Names of the labels, by their numbers."""
    train: list[Item]
    development: list[Item]
    test: list[Item]
    development_figure: Callable[[torch.Tensor], float]
    """Judges logits [N, C] of the development part; higher is better."""
    scheme: str | None = None
    """How labels of words make spans (``IOB2``)."""
    target: Target = "label"
    label_attention: bool = False
    """Whether a fine-tuned model has the head of ``label_attention`` instead of one on the pooled vector."""


def fit(recipe: RunRecipe, encoder: LocalEncoder, labelled: Labelled) -> tuple[torch.Tensor, Tuned | None]:
    """Train as the recipe says; return logits [N, C] of the test part, and the model if it was fine-tuned."""
    if recipe.mode == "frozen":
        return _probe(recipe, encoder, labelled), None
    read: Read = _text_logits if labelled.head == "sequence" else _word_logits
    budget = recipe.scaling.max_batch_tokens
    if labelled.label_attention:
        return _fit_label_attention(recipe, encoder, labelled)

    def make() -> tuple[Any, Problem]:
        model = load_head(
            encoder, labelled.head, labels=labelled.labels, seed=recipe.seed, attention=recipe.scaling.attention
        )
        if labelled.head == "sequence" and encoder.architecture == "modernbert":
            model.config.classifier_pooling = encoder.pooling
        if labelled.target in _PROBLEM_TYPE:
            model.config.problem_type = _PROBLEM_TYPE[labelled.target]
        return model, _problem(model, labelled, read, budget)

    found = tune_best_rate(make, section=recipe.tuning, seed=recipe.seed, max_batch_tokens=budget)
    head: dict[str, str | int | list[str]] = {
        "kind": MANIFEST_KIND[labelled.head],
        "labels": labelled.labels,
        "max_tokens": encoder.max_tokens,
        **({"scheme": labelled.scheme} if labelled.scheme else {}),
    }
    tuned = Tuned(found.model, head, found.epochs, found.number, found.rate)
    return _rows(read, found.model, labelled, labelled.test, budget), tuned


def _fit_label_attention(recipe: RunRecipe, encoder: LocalEncoder, labelled: Labelled) -> tuple[torch.Tensor, Tuned]:
    budget = recipe.scaling.max_batch_tokens

    def read(model: Any, batch: Sequence[Item]) -> torch.Tensor:
        with mixed_precision():
            return model.logits([item.ids for item in batch])

    def make() -> tuple[Any, Problem]:
        base = load_base(encoder, attention=recipe.scaling.attention)
        model = LabelAttentionModel(base, len(labelled.labels), max_tokens=encoder.max_tokens, seed=recipe.seed)
        return model, _problem(model, labelled, read, budget)

    found = tune_best_rate(make, section=recipe.tuning, seed=recipe.seed, max_batch_tokens=budget)
    head: dict[str, str | int | list[str]] = {
        "kind": "label_attention",
        "labels": labelled.labels,
        "max_tokens": encoder.max_tokens,
    }
    tuned = Tuned(found.model.base, head, found.epochs, found.number, found.rate, head_weights=found.model.attention)
    return _rows(read, found.model, labelled, labelled.test, budget), tuned


def _problem(model: Any, labelled: Labelled, read: Read, budget: int) -> Problem:
    def loss_sum(members: Sequence[int]) -> torch.Tensor:
        batch = [labelled.train[i] for i in members]
        logits_NC = read(model, batch).float()
        return _loss_sum(logits_NC, targets(labelled, batch).to(logits_NC.device), labelled.target)

    return Problem(
        lengths=[len(item.ids) for item in labelled.train],
        targets=[_num_targets(labelled, item) for item in labelled.train],
        loss_sum=loss_sum,
        development_figure=lambda: labelled.development_figure(
            _rows(read, model, labelled, labelled.development, budget)
        ),
    )


def targets(labelled: Labelled, items: Sequence[Item]) -> torch.Tensor:
    """Return what ``items`` should give: label numbers [N], scores [N], or for label sets 0 and 1 [N, C]."""
    if labelled.target != "label_set":
        return torch.tensor([label for item in items for label in item.labels])
    members_NC = torch.zeros(len(items), len(labelled.labels), dtype=torch.bool)
    for row, item in enumerate(items):
        members_NC[row, [int(label) for label in item.labels]] = True
    return members_NC


def _loss_sum(logits_NC: torch.Tensor, targets: torch.Tensor, target: Target) -> torch.Tensor:
    """Return the loss summed over the targets; of label sets it is the mean over the labels of each text."""
    if target == "label_set":
        losses_NC = torch.nn.functional.binary_cross_entropy_with_logits(
            logits_NC, targets.to(logits_NC.dtype), reduction="none"
        )
        return losses_NC.mean(dim=1).sum()
    if target == "score":
        return torch.nn.functional.mse_loss(logits_NC[:, 0], targets.to(logits_NC.dtype), reduction="sum")
    return torch.nn.functional.cross_entropy(logits_NC, targets, reduction="sum")


def _num_targets(labelled: Labelled, item: Item) -> int:
    return 1 if labelled.head == "sequence" else len(item.positions)


def _probe(recipe: RunRecipe, encoder: LocalEncoder, labelled: Labelled) -> torch.Tensor:
    base = load_base(encoder, attention=recipe.scaling.attention)

    def read(base: Any, batch: Sequence[Item]) -> torch.Tensor:
        ids = [item.ids for item in batch]
        with mixed_precision():
            hidden_TD = states(base, ids)
            if labelled.head == "token":
                return hidden_TD[_flat_positions(batch)]
            first_ND = pool(hidden_TD, [len(text) for text in ids], encoder.pooling)
            second = [item.second_ids for item in batch]
            if not any(second):
                return first_ND
            second_ND = pool(states(base, second), [len(text) for text in second], encoder.pooling)
            # The usual features of two sentences (Conneau et al., 2017).
            return torch.cat([first_ND, second_ND, (first_ND - second_ND).abs(), first_ND * second_ND], dim=1)

    train_ND, development_ND, test_ND = (
        _rows(read, base, labelled, items, recipe.scaling.max_batch_tokens)
        for items in (labelled.train, labelled.development, labelled.test)
    )
    probe = linear_probe(
        train_ND,
        targets(labelled, labelled.train),
        development_ND,
        num_labels=len(labelled.labels),
        loss_sum=lambda logits_NC, targets: _loss_sum(logits_NC, targets, labelled.target),
        figure=labelled.development_figure,
        seed=recipe.seed,
    )
    with torch.inference_mode():
        logits_NC: torch.Tensor = probe(test_ND)
    return logits_NC


def _text_logits(model: Any, batch: Sequence[Item]) -> torch.Tensor:
    with mixed_precision():
        return logits(model, [item.ids for item in batch])


def _word_logits(model: Any, batch: Sequence[Item]) -> torch.Tensor:
    with mixed_precision():
        return logits(model, [item.ids for item in batch])[_flat_positions(batch)]


def _flat_positions(batch: Sequence[Item]) -> list[int]:
    """Return the positions of all targets in the concatenated tokens of the batch."""
    positions, start = [], 0
    for item in batch:
        positions += [start + position for position in item.positions]
        start += len(item.ids)
    return positions


def _rows(read: Read, model: Any, labelled: Labelled, items: Sequence[Item], max_batch_tokens: int) -> torch.Tensor:
    """Return what ``read`` gives for the targets of all items, in the order of the items, float32 on the CPU."""
    model.eval()
    rows: list[torch.Tensor] = [torch.empty(0)] * len(items)
    with torch.inference_mode():
        for members in by_length([len(item.ids) for item in items], max_batch_tokens=max_batch_tokens):
            batch = [items[i] for i in members]
            found = read(model, batch).float().cpu().split([_num_targets(labelled, item) for item in batch])
            for i, rows_of_item in zip(members, found, strict=True):
                rows[i] = rows_of_item
    # A tensor made in inference mode cannot be trained on: hence the copy.
    return torch.cat(rows).clone()
