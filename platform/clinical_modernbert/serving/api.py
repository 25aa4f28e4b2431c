"""The HTTP face of one replica, an ASGI app that Ray Serve and a bare server run alike.

Every refusal has the shape of OpenAI's errors. Nothing here logs or repeats what a client sent.
"""

from datetime import datetime
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from clinical_modernbert import __version__
from clinical_modernbert.serving import examples, problems
from clinical_modernbert.serving.gate import Gate, respond
from clinical_modernbert.serving.keys import Key
from clinical_modernbert.serving.metrics import TALLY
from clinical_modernbert.serving.routes.classify import build_classify_routes
from clinical_modernbert.serving.routes.classify_schemas import PredictRequest, TokenClassifyRequest
from clinical_modernbert.serving.routes.tei import build_routes
from clinical_modernbert.serving.routes.tei_schemas import (
    EmbedRequest,
    FillMaskRequest,
    SimilarityRequest,
    TokenizeRequest,
)
from clinical_modernbert.serving.schemas import (
    EmbeddingsRequest,
    EmbeddingsResponse,
    ErrorBody,
    Health,
    Info,
    ModelCard,
    ModelList,
)
from clinical_modernbert.serving.service import EmbeddingService

_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The body is not JSON, or a text is empty"},
    401: {"model": ErrorBody, "description": "No valid key"},
    403: {"model": ErrorBody, "description": "The key lacks this route's scope"},
    408: {"model": ErrorBody, "description": "The body arrived too slowly"},
    404: {
        "model": ErrorBody,
        "description": "Another model is served here, or one without the head that the route needs",
    },
    413: {"model": ErrorBody, "description": "Too many texts, or too large a body"},
    422: {"model": ErrorBody, "description": "A field has another shape, or a text is too long"},
    429: {"model": ErrorBody, "description": "The queue is full: wait for Retry-After seconds"},
    500: {"model": ErrorBody, "description": "The server failed"},
    504: {"model": ErrorBody, "description": "Not answered in time"},
}


# For messages: what a body of each route may hold.
_FIELDS = {
    "/v1/embeddings": tuple(EmbeddingsRequest.model_fields),
    "/embed": tuple(EmbedRequest.model_fields),
    "/": tuple(EmbedRequest.model_fields),
    "/embed_all": tuple(EmbedRequest.model_fields),
    "/similarity": tuple(SimilarityRequest.model_fields),
    "/tokenize": tuple(TokenizeRequest.model_fields),
    "/fill-mask": tuple(FillMaskRequest.model_fields),
    "/predict": tuple(PredictRequest.model_fields),
    "/token-classify": tuple(TokenClassifyRequest.model_fields),
}
_ROUTES = frozenset({*_FIELDS, "/v1/models", "/health", "/ping", "/info", "/openapi.json"})


def build_api(service: EmbeddingService, *, keys: tuple[Key, ...] = ()) -> FastAPI:
    """Return the app over a service whose model is loaded and warm; without ``keys`` every client may ask."""
    # Their pages load scripts from a public host, which many networks here cannot reach; the schema is at /openapi.json.
    api = FastAPI(title="Clinical ModernBERT", version=__version__, docs_url=None, redoc_url=None, responses=_REFUSALS)
    api.add_middleware(
        Gate,
        limits=service.engine.recipe.limits,
        keys=keys,
        record=service.record,
        trace=service.trace,
        routes=_ROUTES,
    )
    api.include_router(build_routes(service))
    api.include_router(build_classify_routes(service))
    api.add_exception_handler(problems.ProblemError, _answer_problem)
    api.add_exception_handler(RequestValidationError, _answer_invalid)
    api.add_exception_handler(HTTPException, _answer_http)

    @api.post("/v1/embeddings", response_model=EmbeddingsResponse)
    async def embeddings(
        request: Annotated[EmbeddingsRequest, examples.body("/v1/embeddings", model=service.engine.model_id)],
    ) -> Response:
        """Return one vector for each text, as OpenAI's endpoint does."""
        # Bytes already: FastAPI would walk every number of every vector in Python.
        return Response(await service.embed(request), media_type="application/json")

    @api.get("/v1/models")
    async def models() -> ModelList:
        """List the served model."""
        manifest = service.engine.manifest
        created = int(datetime.fromisoformat(manifest.created_at).timestamp())
        return ModelList(data=[ModelCard(id=manifest.id, created=created)])

    @api.get("/ping", include_in_schema=False)
    @api.get("/health")
    async def health() -> Health:
        """Answer once the model is loaded and warm."""
        return Health()

    @api.get("/info", response_model_exclude_none=True)
    async def info() -> Info:
        """Say which model this is, what it was made from, and its limits."""
        return service.engine.info()

    return api


async def _answer_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, problems.ProblemError)
    return _refuse(error)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _refuse(problems.invalid_body(error.errors(), _FIELDS.get(request.url.path, ())))


async def _answer_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    problem = problems.ProblemError(error.status_code, "http_error", str(error.detail))
    _tally(problem)
    return JSONResponse(problem.body.model_dump(), status_code=error.status_code, headers=error.headers)


def _refuse(problem: problems.ProblemError) -> Response:
    _tally(problem)
    return respond(problem)


def _tally(problem: problems.ProblemError) -> None:
    tally = TALLY.get(None)
    if tally:
        tally.cause = problem.body.error.code
