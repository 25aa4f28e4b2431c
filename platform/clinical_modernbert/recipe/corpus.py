"""Schema of a corpus recipe: sources, filters, tokenizer, held-out split, packing."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from clinical_modernbert.recipe.section import Recipe, Section
from clinical_modernbert.recipe.sources import Source

SequenceLength = Annotated[int, Field(ge=16, le=65_535, multiple_of=8)]


class FilterSection(Section):
    """Which documents are dropped; each drop is counted under its reason."""

    min_characters: int = Field(default=20, ge=1)
    """Documents with fewer characters after normalisation are dropped as ``too_short``."""
    max_characters: int = Field(default=2_000_000, ge=1)
    """Documents with more characters are dropped as ``too_long``: a text of this size is a broken file, not a note."""
    languages: tuple[str, ...] | None = None
    """ISO 639-1 codes to keep; other languages are dropped as ``language``; None keeps all. Texts of fewer than 20 words stay."""
    max_repeated_lines: float = Field(default=0.5, gt=0, le=1)
    """Largest share of characters in lines that repeat an earlier line of the text; more is dropped as ``repetition``."""
    max_repeated_ngrams: float = Field(default=0.5, gt=0, le=1)
    """Largest share of 5-word sequences that repeat an earlier one of the text; more is dropped as ``repetition``."""
    drop_boilerplate: bool = True
    """Drop withdrawn-article notices, error pages and forms without words as ``boilerplate``."""
    min_term_density: float = Field(default=0.0, ge=0, le=1)
    """Smallest share of characters within clinical terms; less is dropped as ``few_terms``. 0 keeps all."""


class IdentifierSection(Section):
    """A filter for identifiers: neither a de-identifier nor a legal finding."""

    engine: Literal["patterns", "presidio"] = "patterns"
    """Our patterns, or Microsoft Presidio with a spaCy model (``clinical-modernbert[presidio]``), which also finds names in
    running text and takes far longer."""
    model: str = "en_core_web_lg"
    """spaCy model of Presidio, installed on every node."""
    action: Literal["report", "mask", "drop"] = "report"
    """Count identifiers; replace each by ``___``; or drop the document as ``identifiers``. Matched text is never stored."""


class DedupSection(Section):
    """Near duplicates; exact ones are always dropped."""

    near: bool = True
    """Drop documents that resemble an earlier one, on either side of the held-out split, as ``near_duplicate``."""
    min_words: int = Field(default=50, ge=10)
    """Shorter documents are compared exactly only: two code descriptions may differ in one word."""


class DecontaminationSection(Section):
    """Keeps texts of evaluation sets out of the corpus."""

    paths: tuple[str, ...] = ()
    """Files of evaluation sets in their own formats; a document that shares 13 consecutive words is dropped as
    ``contaminated``."""
    id_lists: tuple[str, ...] = ()
    """Text files with one PMID or document id a line; these documents are dropped as ``listed``, full text with its PMID."""


class CardSection(Section):
    """The corpus card, ``card.md`` and ``card.json``."""

    public_sources: tuple[str, ...] = ()
    """Sources whose text may be shown: the card has samples of these only."""


class TokenizerSection(Section):
    """The base tokenizer and the clinical tokens added to it (paper, Table 1)."""

    base: str = "answerdotai/ModernBERT-base"
    """A hub id, a local folder, or ``train`` for a byte-level BPE trained on the corpus itself."""
    vocabulary_size: int = Field(default=50_368, ge=320, multiple_of=64)
    """Ids in the embedding matrix when ``base`` is ``train``; otherwise the base's size, padded to a multiple of 64."""
    num_clinical_tokens: int = Field(default=0, ge=0)
    """Frequent clinical words added as whole-word tokens; taken from the lexicon by their count in the training split."""
    training_megabytes: int = Field(default=64, ge=1)
    """Upper bound of the text for tokenizer training and word counts, in megabytes of UTF-8."""


class LexiconSection(Section):
    """The clinical terms that make a token salient (paper, 3.3: medications, procedures, morphology)."""

    code_tables: bool = True
    """Take diagnosis and procedure terms, and codes as they are written in notes, from the installed ICD tables."""
    drug_names: bool = True
    """Take medication names from the installed drug list."""
    vocabularies: tuple[str, ...] = ()
    """Files of MeSH (``mtrees``), the Disease Ontology or HPO (OBO), plain or gzip, whose terms count too; none ships."""
    terms_path: str | None = None
    """A text file with one more term a line."""


class HeldOutSection(Section):
    """The split by group: patient, PMID or code concept; a group is never on both sides."""

    fraction: float = Field(default=0.05, gt=0, lt=0.5)
    """Share of groups held out."""
    seed: int = 0
    """Seed of the group hash."""


class PackingSection(Section):
    """How token sequences become rows."""

    sequence_lengths: tuple[SequenceLength, ...] = (128,)
    """Tokens a row; one set of shards is written for each length."""
    shard_tokens: int = Field(default=67_108_864, ge=1024)
    """Upper bound of the tokens in one shard."""

    @model_validator(mode="after")
    def _distinct(self) -> "PackingSection":
        if len(set(self.sequence_lengths)) != len(self.sequence_lengths) or not self.sequence_lengths:
            raise ValueError(f"sequence_lengths must be distinct and not empty, got {list(self.sequence_lengths)}")
        return self


class CorpusScaling(Section):
    """How the build is distributed; the output does not depend on it."""

    num_cpus: int | None = Field(default=None, ge=1)
    """Tasks that run at the same time; all CPUs of the cluster where None."""


class CorpusRecipe(Recipe):
    """A corpus: raw files in, packed token shards with a manifest out."""

    kind: Literal["corpus"] = "corpus"
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    """The sources of the text."""
    filters: FilterSection = FilterSection()
    identifiers: IdentifierSection = IdentifierSection()
    dedup: DedupSection = DedupSection()
    decontamination: DecontaminationSection = DecontaminationSection()
    card: CardSection = CardSection()
    tokenizer: TokenizerSection = TokenizerSection()
    lexicon: LexiconSection = LexiconSection()
    held_out: HeldOutSection = HeldOutSection()
    packing: PackingSection = PackingSection()
    max_quarantined_fraction: float = Field(default=0.01, ge=0, le=1)
    """The build fails when a larger share of one source's records had to be quarantined. What is lost with them is counted too:
    unread bytes at the source's average records per byte, and the lines that an unclosed quote swallowed."""
    scaling: CorpusScaling = CorpusScaling()

    @model_validator(mode="after")
    def _distinct_names(self) -> "CorpusRecipe":
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"source names must be distinct, these occur twice: {twice}")
        unknown = sorted(set(self.card.public_sources) - set(names))
        if unknown:
            raise ValueError(f"card.public_sources names no source of this recipe: {unknown}; sources are {names}")
        return self
