"""What the trials of a sweep train, and by which held-out figures they are judged. Imports no torch, so that pages can read it.

A search orders its trials by one figure of their own runs. The arms of an ablation are scored again after training, all on the
same examples: under both frozen masks, or on the held-out pairs of each source.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from clinical_modernbert.errors import RecipeError
from clinical_modernbert.masking import MASK_KINDS, TOP_K
from clinical_modernbert.recipe import ContrastRecipe, PretrainRecipe

TrialRecipe = PretrainRecipe | ContrastRecipe


@dataclass(frozen=True, slots=True)
class TrialKind:
    """One kind of base recipe."""

    base: str
    """Kind of the base recipe; ``jobs/<base>.py`` runs one trial by hand."""
    recipe_type: type[PretrainRecipe] | type[ContrastRecipe]
    data: Literal["corpus", "pairs"]
    """The field, of the base and of the sweep, that names the data of every trial."""
    history_name: str
    """File of a model with its curve."""
    metric: str
    """The held-out figure of a run by which trials are ordered, searched and stopped."""
    higher_is_better: bool
    metric_title: str
    measured_on: str
    """What ``metric`` is measured on, in words."""
    metrics: Mapping[str, str]
    """Metrics by which arms are compared -> title."""
    part: str
    """What is scored separately, in words: ``uniform mask``, ``crosswalk pairs``."""
    parts: str
    """All of these."""
    groups: str
    """What is drawn together in a resample."""
    budget: str
    """What the size of a trial's training is counted in."""
    curve_parts: Mapping[str, str]
    """What a run measures while it trains -> its name; the figures of a curve are ``<part>_<metric>``."""
    curve_metrics: Mapping[str, str]
    """Metrics of a curve -> title."""
    paired: Mapping[str, str]
    """What arms of one seed should have in common (fields of ``results.Pairing``) -> its name."""

    def cost(self, value: float | None) -> float:
        """Return what is to be minimised; infinite without a figure."""
        if value is None or math.isnan(value):
            return math.inf
        return -value if self.higher_is_better else value

    @property
    def columns(self) -> dict[str, str]:
        """The metrics in the order of a table: a loss is last."""
        return {name: title for name, title in self.metrics.items() if name != "loss"} | {
            name: title for name, title in self.metrics.items() if name == "loss"
        }


MASKED_METRICS = {"loss": "loss"} | {f"top{k}": f"top-{k}" for k in TOP_K}
PAIR_METRICS = {"recall1": "recall@1", "recall10": "recall@10", "mrr": "MRR"}

PRETRAINING = TrialKind(
    base="pretrain",
    recipe_type=PretrainRecipe,
    data="corpus",
    history_name="history.json",
    metric="uniform_loss",
    higher_is_better=False,
    metric_title="held-out loss",
    measured_on="uniform mask",
    metrics=MASKED_METRICS,
    part="mask",
    parts="two masks",
    groups="documents",
    budget="token places",
    curve_parts={mask: f"{mask} mask" for mask in MASK_KINDS},
    curve_metrics=MASKED_METRICS,
    paired={
        "initial_weights": "initial weights",
        "row_order": "rows at each step",
        "budget": "number of training tokens",
        "data": "training corpus",
        "scored": "hidden tokens",
    },
)

# Not the loss: it has the temperature in it, so two temperatures cannot be compared by it.
VECTORS = TrialKind(
    base="contrast",
    recipe_type=ContrastRecipe,
    data="pairs",
    history_name="curve.json",
    metric="pair_recall1",
    higher_is_better=True,
    metric_title="held-out recall@1",
    measured_on="held-out pairs of all sources together",
    metrics=PAIR_METRICS,
    part="pairs",
    parts="sources",
    groups="categories",
    budget="pairs",
    curve_parts={"pair": "held-out pairs"},
    curve_metrics={"recall1": "recall@1"},
    paired={
        "initial_weights": "initial weights",
        "row_order": "pairs at each step",
        "budget": "number of training pairs",
        "data": "pair set",
        "scored": "held-out pairs",
    },
)

KINDS = {kind.base: kind for kind in (PRETRAINING, VECTORS)}


def trial_kind(base_kind: object, *, base: str) -> TrialKind:
    """Return the kind of a sweep's trials from the ``kind`` of its base recipe."""
    found = KINDS.get(str(base_kind))
    if found is None:
        raise RecipeError(
            f"base={base!r} is a recipe of kind {base_kind}: the trials of a sweep are of kind {' or '.join(KINDS)}"
        )
    return found
