"""Evaluation tasks: which files each kind reads, and how. Paths are relative to the recipe's ``data`` folder."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from clinical_modernbert.recipe.section import Section
from clinical_modernbert.recipe.vocabulary import Pooling

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$")]


CodePrefix = Annotated[str, Field(min_length=1)]


class EncoderSection(Section):
    """An encoder that is evaluated."""

    name: Name
    """Name in reports. Without ``source`` it must be the name of a baseline (``biobert``)."""
    source: str | None = None
    """Hub id, folder with safetensors, or URI of a model artifact (``s3://bucket/prefix/model/<id>``)."""
    revision: str | None = None
    """Commit or tag of a hub id. By default that of the baseline, else the newest one."""
    max_tokens: int | None = Field(default=None, ge=8)
    """Longest input in tokens. By default the limit of the baseline or model."""
    pooling: Pooling | None = None
    """How token vectors become one vector for a text: the [CLS] vector or the mean. By default what the folder of a
    sentence-transformers model says, else [CLS]."""
    query_prompt: str | None = None
    """Text before each query of a retrieval task. By default the model's own prompt named ``query``."""
    document_prompt: str | None = None
    """Text before each document of a retrieval task. By default the model's own prompt named ``document`` or ``passage``."""


class SplitSection(Section):
    """How development and test examples are taken from the training file if they have no files. Groups stay whole."""

    development_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the training groups (patients, PMIDs, documents) used for early stopping."""
    test_fraction: float = Field(default=0.2, gt=0, lt=0.5)
    """Share of all groups used for the reported figures."""
    seed: int = 0
    """Selects the groups."""


class _Task(Section):
    name: Name
    """Name in reports. The sets of the paper are ``ehr``, ``pubmed-nct``, ``medner``, ``pmc-patients``, ``i2b2-2006``, ..."""
    split: SplitSection = SplitSection()
    max_train: int | None = Field(default=None, ge=8)
    """Maximum number of training examples: whole groups in a fixed order. By default all."""
    max_test: int | None = Field(default=None, ge=8)
    """Maximum number of reported examples: whole groups in a fixed order. By default all."""
    public: bool = False
    """Whether error analysis may quote examples. Never set it for credentialed data."""
    note: str = ""
    """A remark about the data, shown in the report."""


class SentenceRolesTask(_Task):
    """Classify each sentence of an abstract by its role, in PubMed-RCT's layout. Accuracy, macro and weighted F1 (Table 6)."""

    type: Literal["sentence_roles"]
    train: str
    """Training file."""
    development: str | None = None
    """File for early stopping. By default taken from ``train`` by PMID."""
    test: str | None = None
    """File for the reported figures. By default taken from ``train`` by PMID."""


class AnnotatedTask(_Task):
    """Texts with annotated spans: what entities and identifiers share."""

    format: Literal["conll", "pubtator", "bioc", "brat", "i2b2_2006", "i2b2_2010", "i2b2_2012", "i2b2_2014"]
    """File format."""
    train: str
    """Training file, folder or archive."""
    development: str | None = None
    """File, folder or archive for early stopping. By default taken from ``train`` by document."""
    test: str | None = None
    """File, folder or archive for the reported figures. By default taken from ``train`` by document."""
    documents: tuple[str, ...] = ()
    """PubTator files with the source documents of CoNLL sentences. CoNLL does not name documents, but splits and intervals need
    them as groups."""
    one_type: bool = False
    """Treat all entity types as one: entity or not, as in the paper's MedNER."""

    @model_validator(mode="after")
    def _documents_fit(self) -> Self:
        if self.documents and self.format != "conll":
            raise ValueError(f"documents is only for format=conll; format={self.format} names its documents")
        return self


class EntitiesTask(AnnotatedTask):
    """Find named entities. Span F1 and token accuracy (Tables 6 and 8)."""

    type: Literal["entities"]


class DeidentificationTask(AnnotatedTask):
    """Find identifiers (PHI) in notes. Recall, precision and F2 of words, whatever the type, and recall of each type."""

    type: Literal["deidentification"]


class DispositionTask(_Task):
    """Predict admission from the emergency department from what is known an hour after arrival. AUROC by patient (Table 6)."""

    type: Literal["disposition"]
    format: Literal["mimic_ed", "mimic_hosp", "meds"]
    """``mimic_ed``: MIMIC-IV-ED's tables; ``mimic_hosp``: MIMIC-IV's hosp tables with ED transfers; ``meds``: MEDS events in
    Parquet."""
    path: str
    """Folder of the tables. For MEDS a data set (``data/**/*.parquet``) or one file of it. A data set with
    ``metadata/subject_splits.parquet`` is split by that file."""
    minutes: int = Field(default=60, ge=1)
    """The text has events from arrival until this many minutes later."""


class TimeToEventTask(_Task):
    """Predict whether an event follows within a horizon, from MEDS events until then. AUROC, AUPRC and Harrell's C by patient."""

    type: Literal["time_to_event"]
    path: str
    """MEDS data set (a folder with ``data/**/*.parquet``) or one file of it. A data set with
    ``metadata/subject_splits.parquet`` is split by that file."""
    predict_at: Annotated[tuple[CodePrefix, ...], Field(min_length=1)]
    """Beginnings of codes: the time of each such event is a time of prediction (``HOSPITAL_DISCHARGE``)."""
    event: Annotated[tuple[CodePrefix, ...], Field(min_length=1)]
    """Beginnings of codes of the event that is predicted (``HOSPITAL_ADMISSION``, ``MEDS_DEATH``)."""
    horizon_days: float = Field(default=30.0, gt=0)
    """AUROC and AUPRC are of the event within this many days after the time of prediction."""
    delay_hours: float = Field(default=0.0, ge=0)
    """The time of prediction is this long after ``predict_at``. If the event, death or the last record comes before it, there is
    nothing to predict."""
    follow_up: Literal["last_event", "complete"] = "last_event"
    """``last_event``: a subject is followed until its last event; where that comes before the horizon, the outcome is not known.
    ``complete``: the data set holds every such event of its subjects, so what it does not hold did not happen."""
    history_days: float | None = Field(default=None, gt=0)
    """Texts have the events of this many days before the time of prediction. By default of all."""
    max_events: int = Field(default=512, ge=1)
    """Maximum number of events in a text: the newest."""
    leave_out: tuple[CodePrefix, ...] = ()
    """Beginnings of codes that texts do not have."""


class ClassificationTask(_Task):
    """Give each text one of several labels, from your own CSV, JSON lines or Parquet files. Accuracy, F1, AUROC of two labels."""

    type: Literal["classification"]
    train: str
    """Training file: ``.csv`` with a header, ``.jsonl`` or ``.parquet``."""
    development: str | None = None
    """File for early stopping. By default taken from ``train`` by group."""
    test: str | None = None
    """File for the reported figures. By default taken from ``train`` by group."""
    text: str = "text"
    """Column of the text."""
    second_text: str | None = None
    """Column of a second text, if a label is about two: a premise and a hypothesis. Fine-tuned models read both in one input."""
    label: str = "label"
    """Column of the label. Of two labels the second one in alphabetical order is the positive one."""
    group: str | None = None
    """Column of what must not be split: the patient, the document. By default every row is a group of its own, which is right
    only if no two rows are of one patient."""


class MultiLabelTask(_Task):
    """Give each text any number of labels: phenotypes, ICD codes. Micro and macro F1 and AUROC, precision at 5, 8 and 15."""

    type: Literal["multi_label"]
    format: Literal["table", "mimic_iv"] = "table"
    """``table``: your own files, one text a row. ``mimic_iv``: a folder with MIMIC-IV's ``hosp/diagnoses_icd``,
    ``hosp/procedures_icd`` and MIMIC-IV-Note's ``note/discharge`` (``.csv.gz``)."""
    train: str
    """Training file (``.csv``, ``.jsonl``, ``.parquet`` or ``.feather``), or MIMIC-IV's folder."""
    development: str | None = None
    """File for early stopping and the threshold. By default taken from ``train`` by ``splits``, else by group."""
    test: str | None = None
    """File for the reported figures. By default taken from ``train`` by ``splits``, else by group."""
    splits: str | None = None
    """File that says which part a text of ``train`` is in: the column ``id`` of this recipe (``mimic_iv``: ``_id``, which is the
    ``hadm_id``) and ``split`` (train, val or dev, test). The published splits of MIMIC have this form."""
    text: str = "text"
    """Column of the text."""
    labels: str = "labels"
    """Column of the labels: a list, or a text with ``separator`` between them."""
    separator: str = ";"
    """Between the labels of a text."""
    group: str | None = None
    """Column of what must not be split: the patient. By default every row is a group of its own. ``mimic_iv`` has the patient."""
    id: str | None = None
    """Column of the text's id in ``splits``."""
    icd_version: Literal[9, 10] = 10
    """Which stays and codes of ``mimic_iv`` are taken."""
    min_label_texts: int = Field(default=1, ge=1)
    """Labels of fewer texts are left out, counted over all three parts. The published MIMIC-IV splits use 10."""
    top_labels: int | None = Field(default=None, ge=2)
    """Only this many labels, the most frequent ones of all three parts. 50 is the literature's short list of ICD codes."""
    label_attention: bool = False
    """Fine-tune with one attention a label over the tokens of the whole document, as PLM-ICD, instead of a head on its pooled
    vector. For thousands of labels and long documents."""
    max_document_tokens: int = Field(default=8192, ge=8)
    """Longest document with ``label_attention``, which an encoder with a lower limit reads in windows. Otherwise a text is cut at
    the encoder's limit."""

    @model_validator(mode="after")
    def _files_fit(self) -> Self:
        if self.splits is not None and (self.development is not None or self.test is not None):
            raise ValueError("splits divides train: leave out development and test")
        if self.splits is not None and self.format == "table" and self.id is None:
            raise ValueError("splits needs id, the column of train by which it names texts")
        if self.format == "mimic_iv" and (self.development is not None or self.test is not None):
            raise ValueError("format=mimic_iv is one folder: set splits, or let groups be split")
        return self


class SimilarityTask(_Task):
    """Say how much two texts mean the same, from your own tables. Correlation with the scores that people gave."""

    type: Literal["similarity"]
    train: str | None = None
    """Pairs for fine-tuning: ``.csv`` or ``.tsv`` with a header, ``.jsonl``, ``.parquet`` or ``.feather``. Without it the task is
    only measured zero-shot."""
    development: str | None = None
    """Pairs for early stopping. By default taken from ``train`` by group."""
    test: str | None = None
    """Reported pairs. By default taken from ``train`` by group."""
    text: str = "sentence1"
    """Column of the first text."""
    second_text: str = "sentence2"
    """Column of the second text."""
    score: str = "score"
    """Column of the score, a number."""
    group: str | None = None
    """Column of what must not be split. By default every pair is a group of its own."""

    @model_validator(mode="after")
    def _files_fit(self) -> Self:
        if self.train is None and self.test is None:
            raise ValueError("set test, train or both")
        if self.development is not None and self.train is None:
            raise ValueError("development decides when training stops: set train too")
        return self


class RelationsTask(_Task):
    """Tell which relation two entities of a document have, if any. Micro F1 over the relations."""

    type: Literal["relations"]
    format: Literal["pubtator", "bioc", "chemprot"]
    """``pubtator`` and ``bioc`` (XML): BC5CDR and BioRED, relations between concepts. ``chemprot``: BioCreative VI's folder of
    ``*_abstracts.tsv``, ``*_entities.tsv`` and ``*_gold_standard.tsv`` or ``*_relations.tsv``, relations between mentions of one
    sentence."""
    train: str
    """Training file or folder."""
    development: str | None = None
    """File or folder for early stopping. By default taken from ``train`` by document."""
    test: str | None = None
    """File or folder for the reported figures. By default taken from ``train`` by document."""
    relations: tuple[str, ...] = ()
    """Types that count as relations; by default all. ChemProt's task has CPR:3, CPR:4, CPR:5, CPR:6 and CPR:9."""


class RetrievalTask(_Task):
    """Rank documents for each query. NDCG@10, P@10, R@10 and MAP (Table 7)."""

    type: Literal["retrieval"]
    format: Literal["beir", "halves"]
    """``beir``: BEIR's layout. ``halves``: texts in any evaluation format, cut in halves; the first half must find the second."""
    queries: str
    """``queries.jsonl`` with the reported queries, or the texts of ``format=halves``."""
    corpus: str | None = None
    """``corpus.jsonl`` with the documents. Required for ``format=beir``."""
    qrels: str | None = None
    """Grades of documents for the reported queries. Required for ``format=beir``."""
    train_queries: str | None = None
    """Queries for fine-tuning. Without them the task is only measured zero-shot."""
    train_qrels: str | None = None
    """Grades of documents for the training queries."""
    development_queries: str | None = None
    """Queries for early stopping. By default taken from the training queries."""
    development_qrels: str | None = None
    """Grades of documents for the development queries."""
    drop_identical_ids: bool = True
    """Leave out a document with the query's own id, as BEIR does: queries that are members of the corpus find themselves.
    ``format=halves`` does not use it."""
    paper_queries: int = Field(default=128, ge=1)
    """Figures are also reported for a fixed sample of this many queries, the number in the paper."""

    @model_validator(mode="after")
    def _files_fit(self) -> Self:
        if self.format == "beir" and (self.corpus is None or self.qrels is None):
            raise ValueError("format=beir needs queries, corpus and qrels")
        if (self.train_queries is None) != (self.train_qrels is None):
            raise ValueError("set both train_queries and train_qrels, or neither")
        if (self.development_queries is None) != (self.development_qrels is None):
            raise ValueError("set both development_queries and development_qrels, or neither")
        if self.development_queries is not None and self.train_queries is None:
            raise ValueError("development_queries decides when training stops: set train_queries too")
        return self


Task = Annotated[
    SentenceRolesTask
    | EntitiesTask
    | DeidentificationTask
    | DispositionTask
    | TimeToEventTask
    | ClassificationTask
    | MultiLabelTask
    | SimilarityTask
    | RelationsTask
    | RetrievalTask,
    Field(discriminator="type"),
]


class TuningSection(Section):
    """How a model is fine-tuned for a task. The defaults are usual for encoders of this size."""

    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate of AdamW."""
    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Rates to choose from instead: each run trains with every one and keeps the best on the development part. So each encoder
    has the rate that suits it on each task. The report states them."""
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises; after them it falls linearly to zero."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay of matrices; norms and biases have none."""
    batch_size: int = Field(default=16, ge=1)
    """Examples (or windows) in one step."""
    num_epochs: int = Field(default=3, ge=1)
    """Maximum number of passes over the training examples."""
    min_steps: int = Field(default=0, ge=0)
    """A small training part gets more passes than ``num_epochs``, until this many steps: three passes are a few dozen steps of
    it, in which nothing is learnt. It still stops by ``patience``."""
    patience: int = Field(default=2, ge=1)
    """Training stops after this many epochs without a better development figure. The best epoch is kept."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Maximum norm of the gradients; larger ones are scaled down to it."""
    window_stride: float = Field(default=0.5, gt=0, le=1)
    """Documents longer than the model's limit are read in windows. Each window starts this share of the limit after the last."""


Mode = Literal["fine_tuned", "frozen"]
