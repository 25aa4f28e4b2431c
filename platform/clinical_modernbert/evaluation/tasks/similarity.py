"""How much two texts mean the same, against the scores that people gave (BIOSSES, MedSTS). A group is ``group``'s, else a pair.

Frozen encoders are measured by the cosine of both vectors, without training. Fine-tuned ones read a pair as one input and give a
score. A correlation does not depend on the scale of either.

Legend: N pairs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.errors import ModelError, SourceError
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.report.schema import ErrorAnalysis
from clinical_modernbert.evaluation.results import Baseline, Facts, Outcome, StoredOutcome, Tuned
from clinical_modernbert.evaluation.scores import Scored, group_numbers
from clinical_modernbert.evaluation.tasks import trivial
from clinical_modernbert.evaluation.tasks.examples import ScoredPair, Splits, limited, make_splits
from clinical_modernbert.evaluation.tasks.ranking import unit
from clinical_modernbert.evaluation.tasks.windows import encode_pairs, encode_texts
from clinical_modernbert.recipe import RunRecipe
from clinical_modernbert.recipe.tasks import Mode, SimilarityTask
from clinical_modernbert.sources.evaluation_sets.labelled_rows import read_strings
from clinical_modernbert.statistics import Floats

if TYPE_CHECKING:
    import torch

TITLE = "sentence similarity"
PLAIN = "Say how much two sentences mean the same, as experts do."
MAIN_METRICS = ("spearman",)
SHOWN = ("spearman", "pearson")
VALUES = ("gold", "predicted")


def paths(task: SimilarityTask) -> tuple[str | None, ...]:
    """Return the files of the three parts."""
    return task.train, task.development, task.test


def trains(task: SimilarityTask, mode: Mode) -> bool:
    """Frozen vectors are compared as they are; fine-tuning needs training pairs."""
    return mode == "fine_tuned" and task.train is not None


def sample_size(task: SimilarityTask) -> int | None:
    """Return None: figures are over all reported pairs."""
    return None


def load(task: SimilarityTask, folder: Path) -> Splits[ScoredPair]:
    """Read the pairs; without training pairs all are reported."""
    train, development, test = (_pairs(folder / name, task) if name else None for name in paths(task))
    if train is None:
        splits = Splits(train=[], development=[], test=test or [])
    else:
        splits = make_splits(train, development, test, section=task.split, facts={})
    return limited(splits, max_train=task.max_train, max_test=task.max_test)


def _pairs(path: Path, task: SimilarityTask) -> list[ScoredPair]:
    group = () if task.group is None else (task.group,)
    pairs = []
    for number, (first, second, score, *rest) in read_strings(path, (task.text, task.second_text, task.score, *group)):
        place = f"{path.name}:{number}"
        try:
            value = float(score)
        except ValueError:
            value = float("nan")
        if not np.isfinite(value):
            raise SourceError(f"{path.name}, row {number}: {task.score} is not a number")
        pairs.append(ScoredPair(place, rest[0] if rest else place, first, second, value))
    if len({pair.score for pair in pairs}) < 2:
        raise SourceError(f"{path.name}: all scores are equal, or there is no pair; nothing can be correlated")
    return pairs


def run(recipe: RunRecipe, encoder: LocalEncoder, splits: Splits[ScoredPair]) -> Outcome:
    """Score the reported pairs; a fine-tuning recipe trains on the training pairs first."""
    predicted_N, num_cut, tuned = (_fine_tuned if recipe.mode == "fine_tuned" else _frozen)(recipe, encoder, splits)
    if not np.isfinite(predicted_N).all() or np.ptp(predicted_N) == 0:
        raise ModelError("the predicted scores of all pairs are equal, or one is not finite: nothing can be correlated")
    facts: Facts = {"texts_cut_to_the_limit": num_cut} if num_cut else {}
    counts = {name: len(part) for name, part in splits.parts().items()}
    return Outcome(_scored(splits.test, predicted_N), counts, facts, tuned=tuned)


def _frozen(recipe: RunRecipe, encoder: LocalEncoder, splits: Splits[ScoredPair]) -> tuple[Floats, int, Tuned | None]:
    """Return (cosines, cut texts, no model)."""
    from clinical_modernbert.encoder import embed_ids
    from clinical_modernbert.evaluation.heads import load_base, mixed_precision
    from clinical_modernbert.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(encoder.folder)
    base = load_base(encoder, attention=recipe.scaling.attention)
    sides: list[NDArray[np.float32]] = []
    num_cut = 0
    for texts in ([pair.first for pair in splits.test], [pair.second for pair in splits.test]):
        ids, cut = encode_texts(tokenizer, texts, max_tokens=encoder.max_tokens)
        with mixed_precision():
            vectors_NW = embed_ids(base, ids, pooling=encoder.pooling, max_batch_tokens=recipe.scaling.max_batch_tokens)
        sides.append(unit(vectors_NW))
        num_cut += cut
    return (sides[0] * sides[1]).sum(axis=1).astype(np.float64), num_cut, None


def _fine_tuned(
    recipe: RunRecipe, encoder: LocalEncoder, splits: Splits[ScoredPair]
) -> tuple[Floats, int, Tuned | None]:
    """Return (predicted scores, cut pairs, model). The model gives scores in standard deviations of the training scores."""
    from clinical_modernbert.evaluation.labelling import Item, Labelled, fit
    from clinical_modernbert.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(encoder.folder)
    train_N = np.array([pair.score for pair in splits.train])
    mean, scale = float(train_N.mean()), max(float(train_N.std()), 1e-9)
    items: dict[str, list[Item]] = {}
    num_cut = 0
    for name, part in splits.parts().items():
        found, cut = encode_pairs(tokenizer, [(p.first, p.second) for p in part], max_tokens=encoder.max_tokens)
        items[name] = [Item(ids, ((p.score - mean) / scale,)) for ids, p in zip(found, part, strict=True)]
        num_cut += cut
    development_N = np.array([item.labels[0] for item in items["development"]])

    def development_figure(logits_N1: "torch.Tensor") -> float:
        # Not a correlation: that of a few pairs may not be defined.
        return -float(np.mean((logits_N1[:, 0].detach().cpu().double().numpy() - development_N) ** 2))

    labelled = Labelled(
        head="sequence",
        labels=["score"],
        train=items["train"],
        development=items["development"],
        test=items["test"],
        development_figure=development_figure,
        target="score",
    )
    logits_N1, tuned = fit(recipe, encoder, labelled)
    predicted_N: Floats = logits_N1[:, 0].double().numpy()
    return predicted_N, num_cut, tuned


def _scored(pairs: Sequence[ScoredPair], predicted_N: Floats) -> Scored:
    values = {"gold": np.array([pair.score for pair in pairs]), "predicted": predicted_N}
    return Scored(group_numbers([pair.group for pair in pairs]), values, measure)


def measure(values: dict[str, Floats], weights_N: Floats) -> dict[str, float]:
    """Return Spearman's and Pearson's correlation. ``values``: gold [N], predicted [N]."""
    gold_N, predicted_N = values["gold"], values["predicted"]
    return {
        "spearman": _pearson(_ranks(gold_N, weights_N), _ranks(predicted_N, weights_N), weights_N),
        "pearson": _pearson(gold_N, predicted_N, weights_N),
    }


def _pearson(a_N: Floats, b_N: Floats, weights_N: Floats) -> float:
    """Return the correlation; NaN if one side does not vary."""
    total = weights_N.sum()
    a_N, b_N = a_N - weights_N @ a_N / total, b_N - weights_N @ b_N / total
    scale = float(np.sqrt((weights_N @ a_N**2) * (weights_N @ b_N**2)))
    return float(weights_N @ (a_N * b_N)) / scale if scale else float("nan")


def _ranks(values_N: Floats, weights_N: Floats) -> Floats:
    """Return the mean rank of each value where example n is there ``weights_N[n]`` times."""
    _, places_N = np.unique(values_N, return_inverse=True)
    weights_V = np.bincount(places_N, weights_N)
    ranks_N: Floats = (np.cumsum(weights_V) - weights_V / 2)[places_N]
    return ranks_N


def baselines(splits: Splits[ScoredPair]) -> list[Baseline]:
    """Return cosines of TF-IDF vectors of words and of characters, fitted on the reported texts."""
    first, second = [pair.first for pair in splits.test], [pair.second for pair in splits.test]
    return [
        Baseline(name, method, _scored(splits.test, trivial.tfidf_pairs(first, second, characters=characters)))
        for name, method, characters in (
            ("TF-IDF cosine", "words, logarithmic counts, fitted on the reported texts", False),
            ("character TF-IDF cosine", "3 to 5 characters, fitted on the reported texts", True),
        )
    ]


def errors(
    splits: Splits[ScoredPair], outcomes: Sequence[StoredOutcome], *, num_resamples: int, shown: bool
) -> ErrorAnalysis:
    """Return no analysis: a score has no classes to confuse."""
    return ErrorAnalysis()
