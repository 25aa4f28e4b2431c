"""Figure 2 (code embeddings) and figure 3 (seconds)."""

from pydantic import Field

from clinical_modernbert.evaluation.report.schema.section import Estimate, Section


class CodeFigures(Section):
    """How well codes of a chapter are next to each other in a vector space."""

    codes: int
    purity: Estimate
    purity_outside: Estimate | None = None
    """Of the neighbours outside the code's own category, whose codes are near-duplicates; None in older maps."""
    neighbour_agreement: Estimate
    silhouette: Estimate
    permutation: float
    """Mean purity under permutation."""
    permutations: dict[str, Estimate]
    """Each figure when chapters are dealt at random: mean and 95 % range."""
    untrained: "CodeFigures | None" = None
    seen: "CodeFigures | None" = None
    held_out: "CodeFigures | None" = None

    def estimates(self) -> dict[str, Estimate]:
        """Return the three figures by name."""
        return {"purity": self.purity, "neighbour_agreement": self.neighbour_agreement, "silhouette": self.silhouette}

    def subsets(self) -> dict[str, "CodeFigures"]:
        """Return the figures of the codes that the corpus had and of those it held out; empty where that is unknown."""
        subsets = {"seen": self.seen, "held_out": self.held_out}
        return {name: figures for name, figures in subsets.items() if figures}


class LookUpFigures(Section):
    """How often the nearest descriptions of codes hold a right one."""

    queries: int
    candidates: int
    recall_at_1: Estimate
    recall_at_10: Estimate
    was_trained: bool = False
    """Whether the encoder was trained on pairs of such codes, so that these figures are no evidence of meaning."""
    held_out: "LookUpFigures | None" = None
    """Of the queries about concepts that its pairs held out; None where there is no pair set, or none was held out."""


class CodesReport(Section):
    """Figure 2."""

    num_codes: int
    k: int
    encoders: dict[str, CodeFigures]
    tfidf: CodeFigures
    crosswalk: dict[str, LookUpFigures] = Field(default_factory=dict)
    """Encoder, or method that counts -> figures of ICD-10-CM counterparts of ICD-9-CM descriptions."""
    lay_words: dict[str, LookUpFigures] = Field(default_factory=dict)
    """The same of ICD-9-CM codes that everyday phrases and abbreviations mean."""


class TimedPoint(Section):
    """All rounds of one encoder over one number of texts."""

    texts: int
    seconds: list[float]
    """Of each round."""
    mean_seconds: float
    tokenizing_seconds: float
    tokens: int
    texts_per_second: float
    tokens_per_second: float
    memory_bytes: int | None
    """None without a GPU."""


class EfficiencyReport(Section):
    """Figure 3."""

    hardware: str
    words: int
    arithmetic: dict[str, str]
    """Protocol -> number format."""
    protocols: dict[str, dict[str, list[TimedPoint]]]
    """Protocol -> encoder -> points."""
    tokenizers: dict[str, dict[str, str]]
    """Protocol -> encoder -> which tokenizer was timed."""
