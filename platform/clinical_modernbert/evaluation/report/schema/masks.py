"""Table 4: accuracy at masked tokens."""

from collections.abc import Mapping
from typing import Any

from pydantic import model_serializer, model_validator

from clinical_modernbert.evaluation.report.schema.section import JsonObject, Range, Section

Shares = dict[str, float]
"""k -> share of hidden tokens that are among the first k guesses. Keys are strings, as in JSON."""


class Accuracies(Section):
    """Top-k accuracy of several predictors at the same hidden tokens.

    In the JSON each predictor is a key of its own, after ``intervals``.
    """

    tokens: int
    documents: int
    intervals: dict[str, dict[str, Range]]
    """Predictor -> k -> 95 % interval over documents."""
    shares: dict[str, Shares]
    """Predictor -> k -> accuracy; ``model`` first, then the baselines."""

    @model_validator(mode="before")
    @classmethod
    def _collect_predictors(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "shares" in values or "intervals" not in values:
            return values
        return {**values, "shares": {name: values[name] for name in values["intervals"] if name in values}}

    @model_serializer(mode="wrap")
    def _spread_predictors(self, handler: Any) -> JsonObject:
        values: JsonObject = handler(self)
        shares, sources = values.pop("shares"), values.pop("sources", None)
        loss = {"loss": values.pop("loss")} if "loss" in values else {}
        return {**loss, **values, **shares, **({} if sources is None else {"sources": sources})}

    @property
    def baselines(self) -> list[str]:
        """The predictors that count instead of learning."""
        return [name for name in self.shares if name != "model"]


class MaskFigures(Accuracies):
    """Table 4 under one frozen mask."""

    loss: float
    """Nats a token."""
    sources: dict[str, Accuracies]


class Table4(Section):
    """Masked tokens of the held-out split."""

    model: str | None = None
    """Id of the store's model; None in an evaluation without encoders or tasks."""
    other_masks: dict[str, dict[str, MaskFigures]] | None = None
    """Encoder with the corpus' tokenizer -> mask -> figures."""
    rows: int
    top_k: list[int]
    masks: dict[str, MaskFigures]

    @property
    def keys(self) -> list[str]:
        """``top_k`` as ``Shares`` has it."""
        return [str(k) for k in self.top_k]
