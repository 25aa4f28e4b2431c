"""The plan of a contrastive run: what of its recipe cannot work is told before Ray starts. Loads no torch."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

from clinical_modernbert.artifacts import Artifact, Plan, Store, make_plan, model_config, model_name
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe import ContrastRecipe

_logger = logging.getLogger(__name__)


def contrast_plan(recipe: ContrastRecipe, store: Store) -> Plan[ContrastRecipe]:
    """Plan the run; raises ``RecipeError`` if its weights don't fit the pair set or a batch, or its vectors the encoder."""
    plan = make_plan(recipe, store)
    _check_batches(recipe, plan.artifacts["pairs"])
    configs = {entry.name: model_config(entry, store) for entry in plan.inputs if entry.name in recipe.model_sources()}
    config = configs["init"]
    if config is not None:
        start = next(model_name(entry) for entry in plan.inputs if entry.name == "init")
        _check_vectors(recipe, config, start)
    return plan


def _check_batches(recipe: ContrastRecipe, pairs: Artifact) -> None:
    training = recipe.training
    splits = ("train", "held_out") if training.split == "all" else (training.split,)
    counts = {
        name: sum(account["pairs"].get(split, 0) for split in splits)
        for name, account in pairs.summary["sources"].items()
    }
    counts = {name: count for name, count in counts.items() if count}
    wanted = wanted_weights(training.weights, counts)
    for name, count in places(training.batch_pairs, wanted).items():
        if not count:
            raise RecipeError(
                f"training.weights: source {name} with weight {wanted[name]:g} has no place in a batch of training.batch_pairs="
                f"{training.batch_pairs}; raise one of the two, or leave the source out with weight 0"
            )
        if count > counts[name]:
            _logger.warning(
                "training.batch_pairs=%d: source %s has %d places in a batch and %d pairs, so a batch has a pair twice",
                training.batch_pairs,
                name,
                count,
                counts[name],
            )


def _check_vectors(recipe: ContrastRecipe, config: Mapping[str, Any], start: str) -> None:
    """Compare with the encoder's config.json; the workers compare with the encoder itself."""
    limit, width = config.get("max_position_embeddings"), config.get("hidden_size")
    if isinstance(limit, int) and recipe.vectors.max_tokens > limit:
        raise RecipeError(f"vectors.max_tokens={recipe.vectors.max_tokens} is beyond the limit of {start}, {limit}")
    too_wide = [dim for dim in recipe.vectors.matryoshka_dims if isinstance(width, int) and dim >= width]
    if too_wide:
        raise RecipeError(f"vectors.matryoshka_dims={too_wide} must be below the width of {start}, {width}")


def wanted_weights(weights: Mapping[str, float], sources: Collection[str]) -> dict[str, float]:
    """Return the weight of each source that is trained on; raises ``RecipeError`` for an unknown source, or if none is left."""
    unknown = sorted(set(weights) - set(sources))
    if unknown:
        raise RecipeError(
            f"training.weights names no source of the pair set: {', '.join(unknown)}; sources are {', '.join(sources)}"
        )
    wanted = {name: weight for name in sources if (weight := weights.get(name, 1.0)) > 0}
    if not wanted:
        raise RecipeError("training.weights leaves no source: give one a weight above 0")
    return wanted


def places(num_pairs: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Return how many places each source has in a batch: by weight, what is left over to the largest remainders.

    Example: 8 places over weights a 1, b 1, c 1 are 3, 3, 2.
    """
    total = sum(weights.values())
    shares = {name: num_pairs * weight / total for name, weight in weights.items()}
    counts = {name: int(share) for name, share in shares.items()}
    left = num_pairs - sum(counts.values())
    order = list(shares)
    for name in sorted(order, key=lambda name: (counts[name] - shares[name], order.index(name)))[:left]:
        counts[name] += 1
    return counts
