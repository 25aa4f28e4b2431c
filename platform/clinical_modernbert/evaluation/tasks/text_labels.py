"""Texts with one label each: sentence roles and emergency disposition.

Legend: N examples, C classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.heads import load_base, load_head, load_tokenizer, sequence_logits
from clinical_modernbert.evaluation.outcome import Outcome
from clinical_modernbert.evaluation.scores import Scored, group_numbers, measure
from clinical_modernbert.evaluation.tasks.examples import Splits, TextExample
from clinical_modernbert.evaluation.tasks.retrieval import embed
from clinical_modernbert.evaluation.tasks.windows import encode_texts
from clinical_modernbert.evaluation.tuning import Problem, by_length, linear_probe, tune
from clinical_modernbert.recipe import FineTuneRecipe, ProbeRecipe


def classify_texts(recipe: FineTuneRecipe | ProbeRecipe, encoder: LocalEncoder, splits: Splits[TextExample]) -> Outcome:
    """Train on the splits and score the test part."""
    labels = sorted({e.label for part in (splits.train, splits.development, splits.test) for e in part})
    numbers = [np.array([labels.index(e.label) for e in part]) for part in _parts(splits)]
    tokenizer = load_tokenizer(encoder.folder)
    encoded, cut = zip(
        *(encode_texts(tokenizer, [e.text for e in p], max_tokens=encoder.max_tokens) for p in _parts(splits)),
        strict=True,
    )
    facts: dict[str, int | str] = {"texts_cut_to_the_limit": sum(cut)} if sum(cut) else {}
    counts = dict(zip(("train", "development", "test"), map(len, _parts(splits)), strict=True))
    budget = recipe.scaling.max_batch_tokens
    groups = group_numbers([e.group for e in splits.test])

    def scored(probabilities_NC: NDArray[np.float64]) -> Scored:
        values = {"labels": numbers[2].astype(np.float64), "probabilities": probabilities_NC}
        return Scored("classification", groups, values)

    def figure(logits_NC: torch.Tensor) -> float:
        values = {"labels": numbers[1].astype(np.float64), "probabilities": _probabilities(logits_NC)}
        return _development_figure(Scored("classification", np.arange(len(logits_NC)), values))

    if isinstance(recipe, ProbeRecipe):
        base = load_base(encoder, attention=recipe.scaling.attention)
        vectors = [
            torch.from_numpy(embed(base, ids, pooling=encoder.pooling, max_batch_tokens=budget)) for ids in encoded
        ]
        probe = linear_probe(
            vectors[0],
            torch.from_numpy(numbers[0]),
            vectors[1],
            num_labels=len(labels),
            figure=figure,
            seed=recipe.seed,
        )
        with torch.inference_mode():
            return Outcome(scored(_probabilities(probe(vectors[2]))), counts, facts, labels)
    model = load_head(
        encoder, "sequence_classification", labels=labels, seed=recipe.seed, attention=recipe.scaling.attention
    )
    if encoder.architecture == "modernbert":
        model.config.classifier_pooling = encoder.pooling

    def loss_sum(members: Sequence[int]) -> torch.Tensor:
        logits_NC = sequence_logits(model, [encoded[0][i] for i in members])
        wanted = torch.from_numpy(numbers[0][list(members)]).to(logits_NC.device)
        return torch.nn.functional.cross_entropy(logits_NC.float(), wanted, reduction="sum")

    problem = Problem(
        lengths=[len(ids) for ids in encoded[0]],
        targets=[1] * len(encoded[0]),
        loss_sum=loss_sum,
        development_figure=lambda: figure(predict_logits(model, encoded[1], max_batch_tokens=budget)),
    )
    epochs, best = tune(model, problem, section=recipe.tuning, seed=recipe.seed, max_batch_tokens=budget)
    probabilities = _probabilities(predict_logits(model, encoded[2], max_batch_tokens=budget))
    head = {"kind": "sequence_classification", "labels": labels, "max_tokens": encoder.max_tokens}
    return Outcome(scored(probabilities), counts, facts, labels, epochs, best, model=model, head=head)


def predict_logits(model: Any, ids: Sequence[Sequence[int]], *, max_batch_tokens: int) -> torch.Tensor:
    """Return logits [N, C] in the order given."""
    model.eval()
    logits_NC = torch.empty(len(ids), model.config.num_labels)
    with torch.inference_mode():
        for part in by_length([len(text) for text in ids], max_batch_tokens=max_batch_tokens):
            logits_NC[part] = sequence_logits(model, [ids[i] for i in part]).float().cpu()
    return logits_NC


def _development_figure(scored: Scored) -> float:
    """AUROC for two classes, else macro F1; a development part of one class falls back on the right class's probability."""
    figures = measure(scored)
    auroc = figures.get("auroc")
    if auroc is None:
        return figures["f1_macro"]
    if auroc == auroc:
        return auroc
    labels = scored.values["labels"].astype(int)
    return float(scored.values["probabilities"][np.arange(len(labels)), labels].mean())


def _parts(splits: Splits[TextExample]) -> tuple[list[TextExample], ...]:
    return splits.train, splits.development, splits.test


def _probabilities(logits_NC: torch.Tensor) -> NDArray[np.float64]:
    probabilities: NDArray[np.float64] = torch.softmax(logits_NC.detach().cpu().double(), dim=1).numpy()
    return probabilities
