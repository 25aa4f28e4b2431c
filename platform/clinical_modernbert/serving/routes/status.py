"""``/health``, ``/ping`` and ``/info``: whether the replica answers, and what each of its models is."""

from dataclasses import asdict
from typing import Literal

import torch

from clinical_modernbert import __version__
from clinical_modernbert.recipe.vocabulary import HeadKind, Precision
from clinical_modernbert.serving.engine import Engine
from clinical_modernbert.serving.models import ServedModels
from clinical_modernbert.serving.schemas import Schema
from clinical_modernbert.serving.service import EmbeddingService


class Health(Schema):
    """Answer of ``GET /health``: the models are loaded and warm, and no thread is stuck."""

    status: Literal["ok"] = "ok"


class PrecisionCheck(Schema):
    """How vectors in bfloat16 agree with those in float32, as measured when the replica started."""

    num_texts: int
    lowest_cosine: float
    overlap_at_10: float


class Input(Schema):
    """One artifact or file that the model was made from."""

    name: str
    id: str
    digest: str


class Limits(Schema):
    """What one request may hold."""

    max_texts: int
    max_characters: int
    max_tokens: int
    max_batch_tokens: int
    max_queued_texts: int
    max_queued_texts_of_key: int | None
    max_requests: int
    max_body_bytes: int
    max_items: int
    max_guesses: int
    max_guess_characters: int
    max_tokenized: int
    max_state_numbers: int
    max_sparse_values: int
    max_class_scores: int
    stalled_after_s: float
    body_timeout_s: float
    request_timeout_s: float


class EmbeddingType(Schema):
    """Pooling, in TEI's form."""

    pooling: str


class ClassifierType(Schema):
    """Labels, in TEI's form."""

    id2label: dict[int, str]
    label2id: dict[str, int]


class ModelType(Schema):
    """Kind of model, in TEI's form: one of the two fields."""

    embedding: EmbeddingType | None = None
    classifier: ClassifierType | None = None


class Info(Schema):
    """Answer of ``GET /info``: which model this is and where it came from."""

    model: str
    fingerprint: str
    digest: str
    """sha256 over the model's files."""
    format_version: int
    code_version: str
    """Version of this package that made the model."""
    created_at: str
    inputs: list[Input]
    """Inputs of the model by artifact id and digest: they lead from a vector to its corpus."""
    hidden_size: int
    pooling: str
    normalize: bool
    precision: Precision
    """Arithmetic of the encoder's layers."""
    precision_check: PrecisionCheck | None = None
    """Null in float32."""
    num_threads: int
    """Threads of one forward pass."""
    limits: Limits
    head: HeadKind
    """Head of the model: it decides which of ``/fill-mask``, ``/embed_sparse``, ``/predict`` and ``/token-classify`` answer.

    ``embedding`` means no head: the model was fine-tuned for its vectors.
    """
    prompts: list[str]
    """Names of the model's prompts, for ``prompt_name``."""
    labels: list[str]
    """Labels of a classification head; empty for other models."""
    model_id: str
    """This field and the following ones have TEI's names."""
    model_sha: str
    model_dtype: str
    model_type: ModelType
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_client_batch_size: int
    auto_truncate: bool = False
    """Texts that are too long are refused unless the request says otherwise."""
    version: str


async def health(models: ServedModels) -> Health:
    """Answer once the models are loaded and warm; 503 if a thread has run the same job for too long."""
    models.check_threads()
    return Health()


async def info(service: EmbeddingService) -> Info:
    """Return what a model was made from, and its limits."""
    return describe(service.engine)


def describe(engine: Engine) -> Info:
    """Return the identity, lineage and limits of a loaded model."""
    manifest, encoder = engine.manifest, engine.encoder
    limits = engine.recipe.limits.model_copy(
        update={"max_tokens": engine.max_tokens, "max_batch_tokens": engine.max_batch_tokens}
    )
    return Info(
        model=manifest.id,
        fingerprint=manifest.fingerprint,
        digest=manifest.digest,
        format_version=manifest.format_version,
        code_version=manifest.code_version,
        created_at=manifest.created_at,
        inputs=[Input(name=entry.name, id=entry.id, digest=entry.digest) for entry in manifest.inputs],
        hidden_size=encoder.hidden_size,
        pooling=engine.pooling,
        normalize=engine.recipe.normalize,
        precision=encoder.precision,
        precision_check=None if encoder.agreement is None else PrecisionCheck(**asdict(encoder.agreement)),
        num_threads=torch.get_num_threads(),
        limits=Limits(**limits.model_dump()),
        model_id=manifest.id,
        model_sha=manifest.digest,
        model_dtype=encoder.precision,
        model_type=_model_type(engine),
        head=engine.head,
        prompts=sorted(engine.prompts.texts),
        labels=list(engine.labels),
        max_concurrent_requests=limits.max_requests,
        max_input_length=engine.max_tokens,
        max_batch_tokens=engine.max_batch_tokens,
        max_client_batch_size=limits.max_texts,
        version=__version__,
    )


def _model_type(engine: Engine) -> ModelType:
    labels = engine.labels
    if not labels:
        return ModelType(embedding=EmbeddingType(pooling=engine.pooling))
    ids = ClassifierType(id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)})
    return ModelType(classifier=ids)
