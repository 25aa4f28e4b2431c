"""The recipe of an endpoint: its models, limits, traces and replicas."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from clinical_modernbert.recipe.section import ModelReference, Recipe, Section
from clinical_modernbert.recipe.vocabulary import InferencePrecision, Pooling


class ServeScaling(Section):
    """Replicas, and the resources of each."""

    num_replicas: int = Field(default=1, ge=1)
    """Replicas of the encoder; with ``max_replicas`` the minimum."""
    max_replicas: int | None = Field(default=None, ge=1)
    """Maximum that Ray Serve may scale to as requests queue; None keeps the number of replicas fixed."""
    target_requests: float = Field(default=32, gt=0)
    """Requests, waiting and computing, that autoscaling aims at per replica."""
    upscale_delay_s: float = Field(default=15, ge=0)
    """Seconds above ``target_requests`` before a replica is added."""
    downscale_delay_s: float = Field(default=600, ge=0)
    """Seconds below ``target_requests`` before a replica is drained and removed."""
    cpus_per_replica: float = Field(default=1, gt=0)
    """CPUs reserved for each replica."""
    num_threads: int = Field(default=1, ge=1)
    """Compute threads of one replica."""

    @model_validator(mode="after")
    def _bounds_in_order(self) -> "ServeScaling":
        if self.max_replicas is not None and self.max_replicas < self.num_replicas:
            raise ValueError(f"max_replicas={self.max_replicas} is less than num_replicas={self.num_replicas}")
        return self


class ServeLimits(Section):
    """Limits on requests, texts and batches."""

    max_texts: Annotated[int, Field(ge=1)] = 2048
    """Texts in one request; a request with more is refused."""
    max_characters: Annotated[int, Field(ge=1)] = 200_000
    """Characters of one text, checked before it is tokenised."""
    max_tokens: Annotated[int, Field(ge=8)] = 8192
    """Tokens of one text; the model's own limit applies if it is lower. Longer texts are refused unless the request sets
    ``truncate`` or ``windows``."""
    max_batch_tokens: Annotated[int, Field(ge=8)] | None = None
    """Tokens in one forward pass. None takes what the replica computes in a second, measured when it starts, from 256 to
    16,384: a text waits at least for the pass before it."""
    max_queued_texts: Annotated[int, Field(ge=1)] = 4096
    """Texts that may wait for one model of a replica before it answers 429. Fewer may wait if they would take longer than
    ``request_timeout_s``."""
    max_queued_texts_of_key: Annotated[int, Field(ge=1)] | None = None
    """Texts that one key may have waiting and computing for one model, beyond which its further requests are refused; None is
    half of ``max_queued_texts``. Without keys there is no share."""
    max_requests: Annotated[int, Field(ge=1)] = 1024
    """Requests that one replica holds at a time, including those whose body is still arriving. Half as many may wait in Ray
    Serve's proxy, which answers 429 to any more."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 4_194_304
    """Bytes of a request's body, counted while it arrives and before it is parsed. Parsing holds up the replica's other requests.
    The default is about a million tokens, or 64 texts of 8,192."""
    max_items: Annotated[int, Field(ge=256)] = 262_144
    """Items of the lists in a request's body, such as token ids, counted before it is parsed."""
    max_guesses: Annotated[int, Field(ge=1)] = 10_000
    """Tokens that ``/fill-mask`` answers for one request: its masks times ``top_k``."""
    max_guess_characters: Annotated[int, Field(ge=1)] = 16_777_216
    """Characters of the ``sequence`` fields of a ``/fill-mask`` answer: each guess repeats its text."""
    max_tokenized: Annotated[int, Field(ge=8)] = 262_144
    """Tokens in one answer of ``/tokenize``."""
    max_state_numbers: Annotated[int, Field(ge=1024)] = 8_388_608
    """Numbers in one answer of ``/embed_all``: its tokens times the width of the model. The default is one text of 8,192 tokens
    at a width of 1,024."""
    max_sparse_values: Annotated[int, Field(ge=1024)] = 2_097_152
    """Values that one answer of ``/embed_sparse`` may have: its texts times the vocabulary, or times ``top_k``. The default is 41
    texts of a vocabulary of 50,368 words."""
    max_class_scores: Annotated[int, Field(ge=1024)] = 1_048_576
    """Scores in one answer of ``/predict``: its texts times the labels of the head, or times ``top_k``. The default is 117 texts
    of 8,922 ICD codes."""
    stalled_after_s: Annotated[float, Field(gt=0)] = 60
    """Seconds after which ``/health`` fails while a thread runs the same job: the model's, the tokenizer's or that of large
    answers. Set it above the time of the longest text."""
    body_timeout_s: Annotated[float, Field(gt=0)] = 30
    """Seconds that a body may take to arrive; after that the answer is 408."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 120
    """Seconds from the end of a body to its answer; after that the answer is 504. A replica that stops waits as long, plus
    ``body_timeout_s``, for the requests that it holds."""

    @model_validator(mode="after")
    def _every_allowed_request_can_be_queued(self) -> "ServeLimits":
        if self.max_texts > self.max_queued_texts:
            raise ValueError(
                f"max_texts={self.max_texts} is more than max_queued_texts={self.max_queued_texts}: a request of that size "
                "would always be refused; raise max_queued_texts or lower max_texts"
            )
        return self


class TracingSection(Section):
    """OpenTelemetry traces; the environment sets where they are sent (``OTEL_EXPORTER_OTLP_ENDPOINT``)."""

    enabled: bool = False
    """Trace requests; needs the extra ``trace``."""
    fraction: float = Field(default=1.0, ge=0, le=1)
    """Share of traces to keep. A request that continues a caller's trace follows the caller's decision."""


AliasName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""1 to 100 letters, digits, dots, underscores and dashes: it is part of addresses."""
Weight = Annotated[float, Field(gt=0)]
"""Share of an alias's keys; weights are relative to their sum."""


Origin = Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9+.-]*://[^/?#\sA-Z]+)$")]
"""Without a slash at its end and in lower case: another spelling would match no page, and nothing would say so."""


class ServedModel(Section):
    """A model of an endpoint, and how its vectors are computed."""

    model: ModelReference
    """The model to serve."""
    pooling: Pooling | None = None
    """How token vectors become one vector; None: as the model was trained, ``cls`` for one without such training."""
    normalize: bool = True
    """Scale vectors to unit length, as OpenAI's endpoint does."""
    precision: InferencePrecision = "float32"
    """Arithmetic of the encoder's layers. A replica compares the vectors of 50 texts in bfloat16 with those in float32 when it
    starts, and refuses to start if a cosine is below 0.999 or the CPU has no bfloat16 (avx512_bf16, AMX). ``auto`` serves float32
    in these cases."""


def _as_section(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


class ServeRecipe(ServedModel, Recipe):
    """An encoder endpoint: its model or models, and its limits."""

    kind: Literal["serve"] = "serve"
    more_models: tuple[Annotated[ServedModel, BeforeValidator(_as_section)], ...] = ()
    """Further models, which requests choose by ``model``: references, alone or with the settings above. Requests that name none
    get the first model. Each replica holds all of them."""
    aliases: dict[AliasName, Annotated[dict[str, Weight], Field(min_length=1)]] = Field(default_factory=dict)
    """Further names that requests may use, each with the weights of the served models that share its requests. The same API key
    always gets the same model, so an alias of several models needs keys."""
    require_keys: bool = False
    """Refuse to start if the environment has no API keys. Keys that it has are required in any case."""
    cors_origins: tuple[Origin, ...] = ()
    """Origins of web pages that may call the endpoint from a browser, such as ``https://intranet.example``: scheme, host and
    port, as a browser sends them. ``*`` is any."""
    limits: ServeLimits = ServeLimits()
    tracing: TracingSection = TracingSection()
    scaling: ServeScaling = ServeScaling()

    @model_validator(mode="after")
    def _each_model_once(self) -> "ServeRecipe":
        references = [one.model for one in self.each_model()]
        for number, reference in enumerate(references[1:]):
            if reference in references[: number + 1]:
                raise ValueError(f"more_models[{number}]: {reference} is served already; name each model once")
        return self

    @model_validator(mode="after")
    def _aliases_name_served_models(self) -> "ServeRecipe":
        references = [one.model for one in self.each_model()]
        for alias, weights in self.aliases.items():
            for reference in weights:
                if reference not in references:
                    served = f"must be one of the served models: {', '.join(references)}"
                    raise ValueError(f"aliases.{alias}: {reference} {served}")
        return self

    def each_model(self) -> "list[ServeRecipe]":
        """Return the recipe of each model alone, the default model first."""
        alone = self.model_copy(update={"more_models": ()})
        return [alone, *(alone.model_copy(update=dict(more)) for more in self.more_models)]

    def pinned(self, ids: Sequence[str]) -> "ServeRecipe":
        """Return the recipe with the models' ids, in the order of ``each_model``, in place of references."""
        more = (one.model_copy(update={"model": i}) for one, i in zip(self.more_models, ids[1:], strict=True))
        id_of = dict(zip((one.model for one in self.each_model()), ids, strict=True))
        aliases = {
            alias: {id_of[reference]: weight for reference, weight in weights.items()}
            for alias, weights in self.aliases.items()
        }
        return self.model_copy(update={"model": ids[0], "more_models": tuple(more), "aliases": aliases})
