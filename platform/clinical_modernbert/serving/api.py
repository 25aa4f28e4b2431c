"""The HTTP API of one replica: the routes, and the FastAPI app that answers them.

The app is plain ASGI, so that Ray Serve and a bare server run it alike. Every refusal has the shape of OpenAI's errors. Nothing
here logs or repeats what a client sent.
"""

import logging
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from clinical_modernbert import __version__
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.serving import problems
from clinical_modernbert.serving.gate import Gate, respond, route_path
from clinical_modernbert.serving.key_ring import KeyRing
from clinical_modernbert.serving.keys import FILE_VARIABLE, TEXT_VARIABLE
from clinical_modernbert.serving.metrics import TALLY
from clinical_modernbert.serving.models import ServedModels
from clinical_modernbert.serving.routes import classify, fill_mask, openai, rerank, sparse, status, tei
from clinical_modernbert.serving.routes.route import Route
from clinical_modernbert.serving.schemas import ErrorBody
from clinical_modernbert.serving.service import EmbeddingService

_VECTORS = list[list[float]]
_EXPOSED_HEADERS = ("retry-after", "x-compute-tokens", "x-ignored-fields", "x-model", "x-request-id", "x-truncated")
_logger = logging.getLogger(__name__)

ROUTES = (
    Route("/v1/embeddings", openai.embeddings, answer=openai.EmbeddingsResponse, examples=openai.EMBEDDINGS_EXAMPLES),
    Route(
        "/embeddings",
        openai.embeddings,
        answer=openai.EmbeddingsResponse,
        examples=openai.EMBEDDINGS_EXAMPLES,
        is_listed=False,
    ),
    Route("/embed", tei.embed, answer=_VECTORS, examples=tei.EMBED_EXAMPLES),
    Route("/", tei.embed, answer=_VECTORS, examples=tei.EMBED_EXAMPLES, is_listed=False),
    Route("/embed_all", tei.embed_all, answer=list[_VECTORS], examples=tei.EMBED_ALL_EXAMPLES),
    Route(
        "/embed_sparse",
        sparse.embed_sparse,
        answer=list[list[sparse.SparseValue]],
        examples=sparse.EXAMPLES,
    ),
    Route("/similarity", tei.similarity, answer=list[float], examples=tei.SIMILARITY_EXAMPLES),
    Route("/rerank", rerank.rerank, answer=list[rerank.Rank], examples=rerank.RERANK_EXAMPLES, exclude_none=True),
    Route(
        "/v1/rerank",
        rerank.v1_rerank,
        answer=rerank.V1RerankResponse,
        examples=rerank.V1_RERANK_EXAMPLES,
        exclude_none=True,
    ),
    Route(
        "/v2/rerank",
        rerank.v1_rerank,
        answer=rerank.V1RerankResponse,
        examples=rerank.V1_RERANK_EXAMPLES,
        is_listed=False,
        exclude_none=True,
    ),
    Route("/tokenize", tei.tokenize, answer=list[list[tei.Token]], examples=tei.TOKENIZE_EXAMPLES),
    Route("/fill-mask", fill_mask.fill_mask, scope="fill-mask", answer=fill_mask.Filled, examples=fill_mask.EXAMPLES),
    Route(
        "/predict",
        classify.predict,
        scope="predict",
        answer=list[classify.ClassScore] | list[list[classify.ClassScore]],
        examples=classify.PREDICT_EXAMPLES,
    ),
    Route(
        "/token-classify",
        classify.token_classify,
        scope="predict",
        answer=list[classify.LabelledSpan] | list[list[classify.LabelledSpan]],
        examples=classify.TOKEN_CLASSIFY_EXAMPLES,
        exclude_none=True,
    ),
    Route("/v1/models", openai.list_models, method="GET", answer=openai.ModelList, scope="any"),
    Route("/v1/models/{model_id}", openai.model, method="GET", answer=openai.ModelCard, scope="any"),
    Route("/info", status.info, method="GET", answer=status.Info, scope="any", exclude_none=True),
    Route("/health", status.health, method="GET", answer=status.Health, scope=None),
    Route("/ping", status.health, method="GET", answer=status.Health, scope=None, is_listed=False),
)
"""All routes of the endpoint but ``/openapi.json``, which FastAPI answers."""

_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The body is not JSON, or a text is empty"},
    401: {"model": ErrorBody, "description": "No valid key"},
    403: {"model": ErrorBody, "description": "The key lacks this route's scope, or may not use this model"},
    408: {"model": ErrorBody, "description": "The body arrived too slowly"},
    404: {
        "model": ErrorBody,
        "description": "The endpoint does not serve this model, or the model lacks the head that the route needs",
    },
    413: {"model": ErrorBody, "description": "Too many texts, or too large a body"},
    422: {"model": ErrorBody, "description": "A field has the wrong type or value, or a text is too long"},
    429: {"model": ErrorBody, "description": "The queue is full: retry after the seconds in Retry-After"},
    500: {"model": ErrorBody, "description": "The server failed"},
    504: {"model": ErrorBody, "description": "Not answered in time"},
}


def build_api(*services: EmbeddingService, keys: KeyRing | None = None) -> FastAPI:
    """Return the app over the services of its models, which are loaded and warm; without ``keys`` no route needs a key.

    The first model answers requests that name none, and its recipe has the limits of all. Raises ``RecipeError``.
    """
    models, (service, *_) = ServedModels(services), services
    recipe, keys = service.engine.recipe, keys or KeyRing()
    if models.needs_keys and not keys.accepted():
        raise RecipeError(
            "aliases: an alias of several models needs API keys, because the same key always gets the same model; set "
            f"{FILE_VARIABLE} or {TEXT_VARIABLE}, or name one model an alias"
        )
    _name_models_of_keys(keys, models)
    # FastAPI's pages load scripts from a public host, which many networks here cannot reach; the schema is at /openapi.json.
    api = FastAPI(
        title="Clinical ModernBERT",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        responses=_REFUSALS,
        # A redirect repeats the client's Host header and leads from https to http where TLS ends before this server.
        redirect_slashes=False,
    )
    api.add_middleware(
        Gate,
        limits=recipe.limits,
        keys=keys,
        record=service.record,
        trace=service.trace,
        model_id=models.ids[0] if len(models.ids) == 1 else None,
        scopes={"/openapi.json": None, **{route.path: route.scope for route in ROUTES}},
    )
    if recipe.cors_origins:
        # Outside of the gate: a browser asks without a key first.
        api.add_middleware(
            CORSMiddleware,
            allow_origins=recipe.cors_origins,
            allow_methods=["GET", "POST"],
            # Any header: OpenAI's JavaScript client sends a dozen of its own, and no cookie gives a page its user's rights.
            allow_headers=["*"],
            expose_headers=_EXPOSED_HEADERS,
        )
    for route in ROUTES:
        route.add_to(api, models)
    bodies = {route.path: route.body for route in ROUTES}

    async def answer_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _refuse(problems.invalid_body(error.errors(), bodies.get(route_path(request.scope))))

    api.add_exception_handler(problems.ProblemError, _answer_problem)
    api.add_exception_handler(RequestValidationError, answer_invalid)
    api.add_exception_handler(HTTPException, _answer_http)
    return api


def _name_models_of_keys(keys: KeyRing, models: ServedModels) -> None:
    """Log each key that may use a model which is not served; no error, because one list of keys may be for several endpoints."""
    for key in keys.accepted():
        unknown = [name for name in key.models or () if name not in models.names]
        if unknown:
            served = ", ".join(models.names)
            _logger.warning("key %s: models=%s: not served here; served are %s", key.name, ",".join(unknown), served)


async def _answer_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, problems.ProblemError)
    return _refuse(error)


async def _answer_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code in (404, 405):
        problem = problems.not_found(error.status_code)
    elif error.status_code == 400:  # what FastAPI raises for a body that json cannot read, but for a wrong character
        problem = problems.invalid_json()
    else:
        problem = problems.ProblemError(error.status_code, "http_error", "the request is not a valid one")
    _tally(problem)
    return JSONResponse(problem.body.model_dump(), status_code=error.status_code, headers=error.headers)


def _refuse(problem: problems.ProblemError) -> Response:
    _tally(problem)
    return respond(problem)


def _tally(problem: problems.ProblemError) -> None:
    tally = TALLY.get(None)
    if tally:
        tally.cause = problem.body.error.code
