"""What one run leaves: scores by example, facts, and the trained model with its head."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.evaluation.scores import Scored
from clinical_modernbert.evaluation.tuning import Epoch


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one encoder on one task with one seed."""

    scored: Scored
    counts: dict[str, int]
    """Examples of each part."""
    facts: dict[str, int | str] = field(default_factory=dict)
    """What the reader of the figures must know, such as texts that were cut."""
    labels: list[str] = field(default_factory=list)
    """Classes or tags by their numbers."""
    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int | None = None
    extra: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """Further arrays by example that error analysis needs."""
    model: Any = None
    """The fine-tuned model; None where the encoder stayed frozen."""
    head: dict[str, Any] | None = None
    """What the endpoint must know of a fine-tuned model: its kind, labels and limit."""
