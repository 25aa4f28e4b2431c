"""The HTTP face of one replica, an ASGI app that Ray Serve and a bare server run alike.

Every refusal has the shape of OpenAI's errors. Nothing here logs or repeats what a client sent.
"""

import logging
from datetime import datetime
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clinical_modernbert import __version__
from clinical_modernbert.serving import problems
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

_logger = logging.getLogger(__name__)

_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The body is not JSON, or a text is empty"},
    404: {"model": ErrorBody, "description": "Another model is served here"},
    413: {"model": ErrorBody, "description": "Too many texts"},
    422: {"model": ErrorBody, "description": "A field has another shape, or a text is too long"},
    429: {"model": ErrorBody, "description": "The queue is full: wait for Retry-After seconds"},
    500: {"model": ErrorBody, "description": "The server failed"},
}


def build_api(service: EmbeddingService) -> FastAPI:
    """Return the app over a service whose model is loaded and warm."""
    api = FastAPI(title="Clinical ModernBERT", version=__version__)
    api.add_middleware(_Seal)
    api.add_exception_handler(problems.ProblemError, _answer_problem)
    api.add_exception_handler(RequestValidationError, _answer_invalid)
    api.add_exception_handler(HTTPException, _answer_http)

    @api.post("/v1/embeddings", response_model=EmbeddingsResponse, responses=_REFUSALS)
    async def embeddings(request: EmbeddingsRequest) -> Response:
        """Return one vector for each text, as OpenAI's endpoint does."""
        answer = await service.embed(request)
        # Straight to bytes: FastAPI would walk every number of every vector in Python.
        return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")

    @api.get("/v1/models")
    async def models() -> ModelList:
        """List the served model."""
        manifest = service.engine.manifest
        created = int(datetime.fromisoformat(manifest.created_at).timestamp())
        return ModelList(data=[ModelCard(id=manifest.id, created=created)])

    @api.get("/health")
    async def health() -> Health:
        """Answer once the model is loaded and warm."""
        return Health()

    @api.get("/info")
    async def info() -> Info:
        """Say which model this is, what it was made from, and its limits."""
        return service.engine.info()

    return api


class _Seal:
    """The last resort: an unforeseen error becomes a plain 500, and its message, which may quote text, goes nowhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:  # noqa: BLE001  # its traceback would carry the message into the server's log
            _logger.error("%s failed with %s", scope.get("path", scope["type"]), type(error).__name__)
            if started or scope["type"] != "http":
                raise RuntimeError(f"failed with {type(error).__name__}") from None
            await _response(problems.internal_error())(scope, receive, send)


def _response(problem: problems.ProblemError) -> Response:
    return JSONResponse(problem.body.model_dump(), status_code=problem.status, headers=dict(problem.headers))


async def _answer_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, problems.ProblemError)
    return _response(error)


async def _answer_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _response(problems.invalid_body(error.errors()))


async def _answer_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    problem = problems.ProblemError(error.status_code, "http_error", str(error.detail))
    return JSONResponse(problem.body.model_dump(), status_code=error.status_code, headers=error.headers)
