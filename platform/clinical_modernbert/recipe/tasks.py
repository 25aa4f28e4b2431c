"""Evaluation tasks: where the data of each lies and what it is. Paths are below the recipe's ``data`` folder."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from clinical_modernbert.recipe.heads import Pooling
from clinical_modernbert.recipe.section import Section

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$")]


class EncoderSection(Section):
    """An encoder that is evaluated."""

    name: Name
    """How reports call it; where ``source`` is None, the name of a baseline (``biobert``)."""
    source: str | None = None
    """Hub id, folder with safetensors, or the URI of a model artifact (``s3://bucket/prefix/model/<id>``)."""
    revision: str | None = None
    """Commit or tag of a hub id."""
    max_tokens: int | None = Field(default=None, ge=8)
    """Longest input in tokens; the baseline's or the model's own limit where None."""
    pooling: Pooling = "cls"
    """How token vectors become one where a task needs a vector."""


class SplitSection(Section):
    """What is carved off by group (patient, PMID, document) where a data set has no files of its own for it."""

    development_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the training groups that decides when to stop."""
    test_fraction: float = Field(default=0.2, gt=0, lt=0.5)
    """Share of all groups that is reported."""
    seed: int = 0
    """Which groups."""


class _Task(Section):
    name: Name
    """How reports call it; in the paper's tables ``ehr``, ``pubmed-nct``, ``medner``, ``pmc-patients``, ``i2b2-2006``, ..."""
    split: SplitSection = SplitSection()
    max_train: int | None = Field(default=None, ge=8)
    """Training examples, whole groups in a fixed order; all where None."""
    max_test: int | None = Field(default=None, ge=8)
    """Reported examples, whole groups in a fixed order; all where None."""
    public: bool = False
    """The set may be shown: error analysis quotes examples. Never true for credentialed data."""
    note: str = ""
    """What the reader of the report must know about the data."""


class SentenceRolesTask(_Task):
    """The role of each sentence of an abstract, in PubMed-RCT's layout; accuracy, F1 macro and weighted (Table 6)."""

    type: Literal["sentence_roles"]
    train: str
    """Training file."""
    development: str | None = None
    """File for early stopping; carved from ``train`` by PMID where None."""
    test: str | None = None
    """Reported file; carved by PMID where None."""


class EntitiesTask(_Task):
    """Named entities; token accuracy and span F1 (Tables 6 and 8)."""

    type: Literal["entities"]
    format: Literal["conll", "pubtator", "brat", "i2b2_2006", "i2b2_2010", "i2b2_2012", "i2b2_2014"]
    """Layout of the files."""
    train: str
    """Training file, folder or archive."""
    development: str | None = None
    """For early stopping; carved from ``train`` by document where None."""
    test: str | None = None
    """What is reported; carved by document where None."""
    documents: tuple[str, ...] = ()
    """PubTator files with the documents of CoNLL sentences, which do not name theirs: groups for splits and intervals."""
    one_type: bool = False
    """Count every type as one: entity or not (the paper's MedNER)."""

    @model_validator(mode="after")
    def _documents_fit(self) -> Self:
        if self.documents and self.format != "conll":
            raise ValueError(f"format={self.format} names its documents itself; documents is for format=conll")
        return self


class DispositionTask(_Task):
    """Admitted from the emergency department or not, from what is known an hour after arrival; AUROC by patient (Table 6)."""

    type: Literal["disposition"]
    format: Literal["mimic_ed", "mimic_hosp", "meds"]
    """MIMIC-IV-ED's tables; MIMIC-IV's hosp tables with ED transfers; or MEDS events in Parquet."""
    path: str
    """Folder of the tables; a MEDS data set (``data/**/*.parquet``, split by its own ``metadata/subject_splits.parquet`` where it
    has one) or one file of it."""
    minutes: int = Field(default=60, ge=1)
    """Events from arrival until so many minutes after it are seen."""


class RetrievalTask(_Task):
    """Rank documents for each query; NDCG@10, P@10, R@10, MAP (Table 7)."""

    type: Literal["retrieval"]
    format: Literal["beir", "halves"]
    """BEIR's layout, or texts in any evaluation format, cut in halves: the first has to find the second."""
    queries: str
    """``queries.jsonl`` of the reported part; the texts of ``format=halves``."""
    corpus: str | None = None
    """``corpus.jsonl``."""
    qrels: str | None = None
    """Grades of the reported queries."""
    train_queries: str | None = None
    """Queries to fine-tune on; only zero-shot where None."""
    train_qrels: str | None = None
    """Grades of the training queries."""
    development_queries: str | None = None
    """Queries for early stopping; carved from the training ones where None."""
    development_qrels: str | None = None
    """Grades of them."""
    paper_queries: int = Field(default=128, ge=1)
    """Beside all queries, a fixed sample of so many is reported, as in the paper."""

    @model_validator(mode="after")
    def _files_fit(self) -> Self:
        if self.format == "beir" and (self.corpus is None or self.qrels is None):
            raise ValueError("format=beir needs queries, corpus and qrels")
        if (self.train_queries is None) != (self.train_qrels is None):
            raise ValueError("train_queries and train_qrels go together")
        if (self.development_queries is None) != (self.development_qrels is None):
            raise ValueError("development_queries and development_qrels go together")
        if self.development_queries is not None and self.train_queries is None:
            raise ValueError("development_queries says when training stops: it needs train_queries")
        return self


Task = Annotated[SentenceRolesTask | EntitiesTask | DispositionTask | RetrievalTask, Field(discriminator="type")]


class TuningSection(Section):
    """How a model is fine-tuned for a task; the defaults are the usual ones for encoders of this size."""

    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak of AdamW's learning rate."""
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the rate rises; it falls linearly to zero after."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of matrices; none on norms and biases."""
    batch_size: int = Field(default=16, ge=1)
    """Examples (or windows) of a step."""
    num_epochs: int = Field(default=3, ge=1)
    """Passes over the training part, at most."""
    patience: int = Field(default=2, ge=1)
    """Epochs without a better development figure after which training stops; the best epoch is kept."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this norm."""
    window_stride: float = Field(default=0.5, gt=0, le=1)
    """Documents beyond the model's limit are read in windows that move on by this share of it."""


Mode = Literal["fine_tuned", "frozen"]
