"""OpenAI's embeddings API: ``/v1/embeddings`` and ``/v1/models``, plus ``truncate`` and ``windows`` for long texts.

The field names, the base64 form (little-endian float32) and the shape of errors are those of OpenAI's API reference.
``output_dtype`` is Voyage's, ``prompt_name`` TEI's.
"""

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Response
from numpy.typing import NDArray
from pydantic import Field

from clinical_modernbert.encoder.output_types import as_output
from clinical_modernbert.encoder.windows import average
from clinical_modernbert.recipe.vocabulary import OutputType
from clinical_modernbert.serving.forward import EncodeTask
from clinical_modernbert.serving.models import ServedModels
from clinical_modernbert.serving.routes.rendering import NUMBERS_IN_JOB, render_lists
from clinical_modernbert.serving.routes.route import Examples
from clinical_modernbert.serving.schemas import Body, EmbeddingInput, Schema
from clinical_modernbert.serving.service import EmbeddingService, Outputs, SomeTexts

_NO_OUTPUTS = Outputs(token_ids=[], arrays=[], ranges=[], truncated=[])
_NOTES = ["chest pain radiating to the left arm", "no acute distress"]
EMBEDDINGS_EXAMPLES: Examples = {
    "one_text": {"input": _NOTES[0]},
    "a_list_as_base64": {"input": _NOTES, "encoding_format": "base64"},
    "narrower_vectors": {"input": _NOTES, "dimensions": 16},
    "small_vectors": {"input": _NOTES, "encoding_format": "base64", "output_dtype": "binary"},
    "an_empty_text": {"input": [_NOTES[0], ""], "empty": "null"},
    "a_long_text_in_windows": {"input": "acute kidney injury " * 100, "windows": True},
}


class EmbeddingsRequest(Body):
    """Body of ``POST /v1/embeddings``."""

    input: EmbeddingInput = Field(examples=[_NOTES])
    """One text, a list of texts, the token ids of one text, or a list of such id lists.

    Token ids are those of the served model's own tokenizer with its special tokens: they begin with [CLS] and end with [SEP].
    """
    model: str | None = None
    """Id of a served model, ``<name>-<fingerprint>``, its name alone, or an alias; absent: the first that the key may use."""
    encoding_format: Literal["float", "base64"] = "float"
    """``float``: a list of numbers; ``base64``: the bytes of the numbers, little-endian."""
    output_dtype: OutputType = "float32"
    """Type of the numbers. ``int8``: each vector scaled so that its largest number is 127, which keeps cosines; ``binary``: the
    signs, eight in an unsigned byte, the first in its highest bit."""
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Width of the returned vectors: the first ``dimensions`` numbers, scaled to unit length again."""
    truncate: bool = False
    """Cut texts that are too long and mark them in the answer; otherwise they are refused."""
    prompt_name: str | None = None
    """One of the model's prompts, which precedes each text; absent: the model's default prompt, if it has one."""
    windows: bool = False
    """Read texts that are too long in windows and average the windows' vectors by tokens; the answer counts the windows."""
    empty: Literal["refuse", "null"] = "refuse"
    """``null``: the ``embedding`` of a text that is empty or of spaces alone is null. Otherwise a request with an empty text is
    refused."""


class EmbeddingItem(Schema):
    """The vector of one text."""

    object: Literal["embedding"] = "embedding"
    index: int
    """Position of the text in the request."""
    embedding: list[float] | str | None
    """Null for an empty text, where the request allows it."""
    truncated: bool | None = None
    """True if the text was cut; absent otherwise."""
    windows: int | None = None
    """Number of windows that the vector averages; absent if the text was read as a whole."""


class Usage(Schema):
    """Tokens that the request cost, special tokens included."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(Schema):
    """Answer of ``POST /v1/embeddings``."""

    object: Literal["list"] = "list"
    data: list[EmbeddingItem]
    model: str
    """``<name>-<fingerprint>`` of the model that answered, even if the request used its name alone or an alias."""
    usage: Usage


class ModelCard(Schema):
    """One served model, or an alias."""

    id: str
    object: Literal["model"] = "model"
    created: int
    """Seconds since 1970, UTC."""
    owned_by: str = "clinical-modernbert"


class ModelList(Schema):
    """Answer of ``GET /v1/models``."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


async def embeddings(service: EmbeddingService, request: EmbeddingsRequest) -> Response:
    """Return one vector for each text, as OpenAI's endpoint does."""
    engine = service.engine
    service.check_dimensions(request.dimensions)
    inputs: EmbeddingInput | SomeTexts = request.input
    places: Sequence[int | None] | None = None
    if request.empty == "null":
        inputs, places = service.without_empty(request.input, field="input")
    outputs = _NO_OUTPUTS
    vectors_ND: NDArray[Any] = np.empty((0, engine.encoder.hidden_size), dtype=np.float32)
    if not isinstance(inputs, SomeTexts) or inputs.texts:
        outputs = await service.run(
            service.with_prompt(inputs, request.prompt_name, field="input"),
            field="input",
            truncate=request.truncate,
            windows=request.windows,
            task=EncodeTask,
        )
        merged_ND = np.stack([average(outputs.arrays[a:b], outputs.lengths[a:b]) for a, b in outputs.ranges])
        vectors_ND = as_output(engine.finish(merged_ND, dimensions=request.dimensions), request.output_dtype)
    # Text, not a model: FastAPI would walk every number of every vector in Python.
    numbered = list(enumerate(range(len(vectors_ND)) if places is None else places))
    (items,) = await render_lists(
        service,
        [numbered],
        lambda some: _render(some, outputs, vectors_ND, encoding_format=request.encoding_format),
        items_in_job=max(NUMBERS_IN_JOB // vectors_ND.shape[1], 1),
    )
    usage = Usage(prompt_tokens=outputs.num_tokens, total_tokens=outputs.num_tokens)
    frame = EmbeddingsResponse(data=[], model=engine.model_id, usage=usage).model_dump_json()
    return Response(frame.replace('"data":[]', f'"data":{items}', 1), media_type="application/json")


async def list_models(models: ServedModels) -> ModelList:
    """List the models and aliases that the key may use; the first answers requests that name none."""
    cards = [_card(service) for service in models.allowed()]
    for alias, services in models.allowed_aliases().items():
        cards.append(ModelCard(id=alias, created=max(_card(service).created for service in services)))
    return ModelList(data=cards)


async def model(models: ServedModels, model_id: str) -> ModelCard:
    """Return a served model by its id or its name alone; of an alias, the model that answers this key."""
    return _card(models.choose(model_id))


def _card(service: EmbeddingService) -> ModelCard:
    manifest = service.engine.manifest
    return ModelCard(id=manifest.id, created=int(datetime.fromisoformat(manifest.created_at).timestamp()))


def encode_vector(vector_D: NDArray[Any], encoding_format: Literal["float", "base64"]) -> list[float] | str:
    """Return one vector in the format that the client requested."""
    if encoding_format == "base64":
        return base64.b64encode(vector_D.tobytes()).decode("ascii")
    numbers: list[float] = vector_D.tolist()
    return numbers


def _render(
    numbered: Sequence[tuple[int, int | None]],
    outputs: Outputs,
    vectors_ND: NDArray[Any],
    *,
    encoding_format: Literal["float", "base64"],
) -> str:
    """Return the items of some texts as a JSON list: each has the text's number in the request, and its place in the outputs."""
    items = []
    for number, place in numbered:
        if place is None:
            items.append(EmbeddingItem(index=number, embedding=None).model_dump_json(exclude={"truncated", "windows"}))
            continue
        first, stop = outputs.ranges[place]
        item = EmbeddingItem(
            index=number,
            embedding=encode_vector(vectors_ND[place], encoding_format),
            truncated=outputs.truncated[place] or None,
            windows=stop - first if stop - first > 1 else None,
        )
        items.append(item.model_dump_json(exclude_none=True))
    return f"[{','.join(items)}]"
