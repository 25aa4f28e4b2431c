"""What a model finds in a table of texts, in bulk: vectors and their map, or labelled spans."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from clinical_modernbert.recipe.section import EmbeddingsReference, ModelReference, Recipe, RecipeValues, Section
from clinical_modernbert.recipe.vocabulary import Grouping, Pooling, Precision, VectorType


class EmbedScaling(Section):
    """How the work is distributed; the output does not depend on it."""

    num_workers: int | None = Field(default=None, ge=1)
    """Number of actors; None starts as many as the cluster has CPUs, GPUs and memory for (1 GiB and twice the weights each)."""
    cpus_per_worker: int = Field(default=1, ge=1)
    """CPUs and compute threads of one actor."""
    gpus_per_worker: int = Field(default=0, ge=0, le=1)
    """GPUs of one actor."""
    max_batch_tokens: int = Field(default=16_384, ge=8)
    """Tokens in one forward pass."""


class TableRecipe(Recipe):
    """A model that reads each row of a table of texts."""

    model: ModelReference
    """The model that reads the texts."""
    input_uri: str
    """One file, or a folder with .parquet, .csv, .jsonl, .ndjson and .json files, the last four also .gz: a path,
    ``file:///folder`` or ``s3://bucket/prefix``. Folders such as ``year=2024`` are columns; names with a leading ``_`` or ``.``
    are left out."""
    id_column: str
    """Column with the id of a row; a row without an id is quarantined."""
    text_column: str
    """Column with the text."""
    precision: Precision = "float32"
    """Arithmetic of the encoder's layers. bfloat16 needs hardware for it in every worker (avx512_bf16, AMX, a GPU from A100 on)
    and is refused if vectors of 50 texts have a cosine below 0.999 with those in float32."""
    long_texts: Literal["quarantine", "truncate", "windows"] = "windows"
    """A text longer than ``max_tokens`` is quarantined, cut, or read in windows, whose vectors are averaged and whose labels
    follow each other."""
    max_tokens: int = Field(default=8192, ge=8)
    """Longest text in tokens; the model's limit applies where that is lower."""
    part_rows: int = Field(default=4096, ge=1)
    """Largest number of rows in one task and in one output file; a killed job repeats at most its open tasks."""
    max_quarantined_fraction: float = Field(default=0.01, ge=0, le=1)
    """Share of rows that may be quarantined before the job fails."""
    duplicate_ids: Literal["keep", "refuse"] = "keep"
    """What to do where several rows have the same id: keep and count them, or end the job before the model reads any text."""
    scaling: EmbedScaling = EmbedScaling()

    @property
    def stored_columns(self) -> tuple[str, ...]:
        """Columns that are stored as they are, as strings."""
        return ()

    @property
    def needs_whole_ids(self) -> bool:
        """Whether a row whose id is no whole number is quarantined."""
        return False

    def identity(self) -> RecipeValues:
        """Return the settings that decide the output; the table counts by the content of its files, not by their address."""
        return {key: value for key, value in super().identity().items() if key != "input_uri"}


class EmbedRecipe(TableRecipe):
    """A vector for each row of CSV, Parquet or JSON files; the texts are never stored."""

    kind: Literal["embed"] = "embed"
    metadata_columns: tuple[str, ...] = ()
    """Columns that are stored with the vectors as strings, for colours and filters; never free text."""
    pooling: Pooling | None = None
    """How token vectors become one vector; None: as the model was trained, ``cls`` for one without such training."""
    normalize: bool = True
    """Scale vectors to unit length."""
    dimensions: int | None = Field(default=None, ge=1)
    """Keep the first numbers of each vector only, before they are scaled: for models that were trained for it (Matryoshka)."""
    vector_type: VectorType = "float32"
    """Type of the stored numbers. float16 halves the files; int8 is a quarter, each vector scaled so that its largest number is
    127, which keeps cosines to about 0.01 and loses lengths."""

    @property
    def stored_columns(self) -> tuple[str, ...]:
        """The metadata columns."""
        return self.metadata_columns

    @model_validator(mode="after")
    def _the_text_is_kept_nowhere(self) -> "EmbedRecipe":
        if self.text_column in (self.id_column, *self.metadata_columns):
            raise ValueError(
                f"text_column={self.text_column!r} is also id_column or in metadata_columns: texts are never stored"
            )
        reserved = {"id", "vector", "num_tokens", "truncated", "windows"} & set(self.metadata_columns)
        if reserved or len(set(self.metadata_columns)) < len(self.metadata_columns):
            raise ValueError(
                "metadata_columns must be distinct and not among id, vector, num_tokens, truncated, windows"
            )
        return self


class ExtractRecipe(TableRecipe):
    """The spans that a token-classification model labels in each row, as OMOP's table NOTE_NLP (CDM 5.4).

    The text of a span is stored (``lexical_variant``), and that around it where ``snippet_characters`` says so.
    """

    kind: Literal["extract"] = "extract"
    id_type: Literal["integer", "string"] = "integer"
    """Type of ``note_id``. OMOP's is an integer, and a row with another id is quarantined; ``string`` is for tables that are not
    OMOP's."""
    concepts: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """OMOP concept of each label, for ``note_nlp_concept_id``; a label without one has 0, OMOP's "no matching concept"."""
    grouping: Grouping = "first"
    """How labelled tokens become spans: ``first``, ``average`` and ``max`` label whole words, ``simple`` joins tokens of one
    class, ``none`` keeps every token."""
    min_score: float = Field(default=0.0, ge=0, le=1)
    """Lowest score of a span that is stored."""
    snippet_characters: int = Field(default=0, ge=0, le=250)
    """Characters of ``snippet``, the text around a span; 0 leaves the column empty."""

    @property
    def needs_whole_ids(self) -> bool:
        """Whether the ids are OMOP's."""
        return self.id_type == "integer"


class ProjectScaling(Section):
    """How the work is distributed; the output does not depend on it."""

    num_cpus: int = Field(default=2, ge=1)
    """Threads of the projection."""


class ProjectRecipe(Recipe):
    """The 2-D map of an embedded set, with each row's neighbours in the original space."""

    kind: Literal["project"] = "project"
    embeddings: EmbeddingsReference
    """The embedded set, made by an embed recipe."""
    max_rows: int | None = Field(default=50_000, ge=50)
    """Rows on the map, a deterministic sample of the set; None takes all (time grows with their square)."""
    perplexity: float = Field(default=30.0, gt=1)
    """t-SNE perplexity."""
    num_iterations: int = Field(default=500, ge=50)
    """t-SNE iterations after early exaggeration."""
    num_neighbours: int = Field(default=10, ge=1, le=40)
    """Number of neighbours to store for each row."""
    seed: int = 0
    """Seed of the sample and the projection."""
    scaling: ProjectScaling = ProjectScaling()
