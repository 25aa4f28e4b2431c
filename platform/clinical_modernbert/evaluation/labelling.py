"""Fit an encoder to labelled items: fine-tune it with a head, or train a probe on its frozen vectors.

An item is what the model reads at once: a text with one label, or a window with a label for each of its words. Both kinds of head
are read here, so that a task kind only makes items and judges predictions.

Legend: N targets of all items or of a batch, C labels, D width of the encoder, T tokens of a batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from clinical_modernbert.encoder.forward import logits, pool, states
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.heads import load_base, load_head, mixed_precision
from clinical_modernbert.evaluation.results import Tuned
from clinical_modernbert.evaluation.tuning import Problem, by_length, linear_probe, tune_best_rate
from clinical_modernbert.recipe import RunRecipe
from clinical_modernbert.recipe.vocabulary import MANIFEST_KIND, HeadKind

Read = Callable[[Any, Sequence["Item"]], torch.Tensor]
"""(model, batch) -> one row for each target of the batch, in their order."""


@dataclass(frozen=True, slots=True)
class Item:
    """A text or a window, as the model reads it."""

    ids: Sequence[int]
    """Tokens, [CLS] and [SEP] included."""
    labels: Sequence[int]
    """Number of each target's label; a text has one target."""
    positions: Sequence[int] = ()
    """Token of each target in ``ids``; empty for a text."""


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


def fit(recipe: RunRecipe, encoder: LocalEncoder, labelled: Labelled) -> tuple[torch.Tensor, Tuned | None]:
    """Train as the recipe says; return logits [N, C] of the test part, and the model if it was fine-tuned."""
    if recipe.mode == "frozen":
        return _probe(recipe, encoder, labelled), None
    read: Read = _text_logits if labelled.head == "sequence" else _word_logits
    budget = recipe.scaling.max_batch_tokens

    def make() -> tuple[Any, Problem]:
        model = load_head(
            encoder, labelled.head, labels=labelled.labels, seed=recipe.seed, attention=recipe.scaling.attention
        )
        if labelled.head == "sequence" and encoder.architecture == "modernbert":
            model.config.classifier_pooling = encoder.pooling
        return model, _problem(model, labelled, read, budget)

    found = tune_best_rate(make, section=recipe.tuning, seed=recipe.seed, max_batch_tokens=budget)
    head: dict[str, str | int | list[str]] = {
        "kind": MANIFEST_KIND[labelled.head],
        "labels": labelled.labels,
        "max_tokens": encoder.max_tokens,
        **({"scheme": labelled.scheme} if labelled.scheme else {}),
    }
    tuned = Tuned(found.model, head, found.epochs, found.number, found.rate)
    return _rows(read, found.model, labelled.test, budget), tuned


def _problem(model: Any, labelled: Labelled, read: Read, budget: int) -> Problem:
    def loss_sum(members: Sequence[int]) -> torch.Tensor:
        batch = [labelled.train[i] for i in members]
        logits_NC = read(model, batch).float()
        labels_N = torch.tensor([label for item in batch for label in item.labels], device=logits_NC.device)
        return torch.nn.functional.cross_entropy(logits_NC, labels_N, reduction="sum")

    return Problem(
        lengths=[len(item.ids) for item in labelled.train],
        targets=[len(item.labels) for item in labelled.train],
        loss_sum=loss_sum,
        development_figure=lambda: labelled.development_figure(_rows(read, model, labelled.development, budget)),
    )


def _probe(recipe: RunRecipe, encoder: LocalEncoder, labelled: Labelled) -> torch.Tensor:
    base = load_base(encoder, attention=recipe.scaling.attention)

    def read(base: Any, batch: Sequence[Item]) -> torch.Tensor:
        ids = [item.ids for item in batch]
        with mixed_precision():
            hidden_TD = states(base, ids)
            if labelled.head == "token":
                return hidden_TD[_flat_positions(batch)]
            return pool(hidden_TD, [len(text) for text in ids], encoder.pooling)

    train_ND, development_ND, test_ND = (
        _rows(read, base, items, recipe.scaling.max_batch_tokens)
        for items in (labelled.train, labelled.development, labelled.test)
    )
    probe = linear_probe(
        train_ND,
        torch.tensor([label for item in labelled.train for label in item.labels]),
        development_ND,
        num_labels=len(labelled.labels),
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


def _rows(read: Read, model: Any, items: Sequence[Item], max_batch_tokens: int) -> torch.Tensor:
    """Return what ``read`` gives for the targets of all items, in the order of the items, float32 on the CPU."""
    model.eval()
    rows: list[torch.Tensor] = [torch.empty(0)] * len(items)
    with torch.inference_mode():
        for members in by_length([len(item.ids) for item in items], max_batch_tokens=max_batch_tokens):
            batch = [items[i] for i in members]
            targets = read(model, batch).float().cpu().split([len(item.labels) for item in batch])
            for i, rows_of_item in zip(members, targets, strict=True):
                rows[i] = rows_of_item
    # A tensor made in inference mode cannot be trained on: hence the copy.
    return torch.cat(rows).clone()
