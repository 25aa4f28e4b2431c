"""Refusals in the shape of OpenAI's API: status, type, param, code, and a message that never repeats the request.

Messages of pydantic and FastAPI may contain input, so these messages use only the position and the kind of an error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from clinical_modernbert.recipe.vocabulary import HeadKind
from clinical_modernbert.serving.schemas import ErrorBody, ErrorDetail, Form, Schema


class ProblemError(Exception):
    """A refusal: the answer has a 4xx or 5xx status."""

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(code)
        self.status = status
        kind = (
            "server_error"
            if status >= 500
            else "rate_limit_error"
            if status == 429
            else "authentication_error"
            if status == 401
            else "invalid_request_error"
        )
        self.body = ErrorBody(error=ErrorDetail(message=message, type=kind, param=param, code=code))
        self.headers: Mapping[str, str] = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}


def unknown_model(names: Sequence[str]) -> ProblemError:
    """404: the request names a model that is not served here, or a name that several have."""
    message = f"model must be one of {', '.join(names)}, or absent"
    return ProblemError(404, "model_not_found", message, param="model")


def two_models() -> ProblemError:
    """422: the body names one model and the address another."""
    return ProblemError(422, "invalid_model", "the body and the address name two models: name one", param="model")


def wrong_model() -> ProblemError:
    """403: a valid key that may use other models only."""
    message = "this key may not use this model: GET /v1/models lists those that it may use"
    return ProblemError(403, "insufficient_scope", message, param="model")


def empty_input(*params: str) -> ProblemError:
    """400: nothing to embed at ``params``; ``param`` of the answer is the first of them."""
    verb = "is" if len(params) == 1 else "are"
    message = f"{', '.join(params)} {verb} empty: each text needs at least one character or token"
    return ProblemError(400, "empty_input", message, param=params[0])


def too_many_texts(param: str, number: int, limit: int) -> ProblemError:
    """413: more texts than one request may hold."""
    message = f"{param} has {number} texts; the limit is max_texts={limit}: split it"
    return ProblemError(413, "too_many_texts", message, param=param)


def too_many_places(param: str, number: int, limit: int) -> ProblemError:
    """413: more texts, or windows of texts, than the queue holds."""
    message = f"{param} has {number} texts and windows of texts; the limit is max_queued_texts={limit}: split it"
    return ProblemError(413, "too_many_texts", message, param=param)


def too_many_items(limit: int) -> ProblemError:
    """413: lists that are refused before the body is parsed."""
    message = f"the lists in the body have more than max_items={limit} items: split the request"
    return ProblemError(413, "too_many_items", message)


def too_many_guesses(masks: int, top_k: int, limit: int) -> ProblemError:
    """413: more tokens to answer than ``/fill-mask`` may."""
    message = (
        f"{masks} masks times top_k={top_k} are {masks * top_k} tokens; the limit is max_guesses={limit}: "
        f"set top_k to at most {limit // masks} or send fewer masks"
    )
    if masks > limit:
        message = f"inputs has {masks} masks; the limit is max_guesses={limit}: split it"
    return ProblemError(413, "answer_too_large", message, param="parameters" if masks <= limit else "inputs")


def answer_too_large(param: str, answer: str, limit: str) -> ProblemError:
    """413: the answer would be larger than the route may build; the message names what fits."""
    return ProblemError(413, "answer_too_large", f"the answer would have {answer}; the limit is {limit}", param=param)


def stalled(seconds: float) -> ProblemError:
    """503: a thread of the replica is stuck."""
    message = f"a thread of this replica has run the same job for {seconds:.0f} s: restart the replica"
    return ProblemError(503, "unavailable", message, retry_after_s=1)


def invalid_unicode(param: str) -> ProblemError:
    """422: half of a surrogate pair, which JSON can express and UTF-8 cannot."""
    return ProblemError(
        422,
        "invalid_unicode",
        f"{param} holds half of a surrogate pair: do not cut a text inside a character",
        param=param,
    )


def too_many_characters(param: str, number: int, limit: int) -> ProblemError:
    """422: a text that is refused before it is tokenised."""
    message = f"{param} has {number} characters; the limit is max_characters={limit} a text: split it"
    return ProblemError(422, "text_too_long", message, param=param)


def too_many_tokens(param: str, number: int, limit: int) -> ProblemError:
    """422: a text longer than the model's limit."""
    message = f"{param} has {number} tokens; the limit is max_tokens={limit} a text: split it, or set truncate to true"
    return ProblemError(422, "text_too_long", message, param=param)


def query_too_long(number: int, limit: int) -> ProblemError:
    """422: a query that leaves no room for a text in the pair that a cross-encoder reads."""
    message = f"query has {number} tokens; next to a text it may have at most {limit}: shorten it"
    return ProblemError(422, "text_too_long", message, param="query")


def request_too_long(param: str, number: int, limit: int) -> ProblemError:
    """All texts of a request take longer than a request may, even on an idle replica."""
    message = f"{param} has {number} tokens; about {limit} can be computed before the time limit of a request: split it"
    return ProblemError(413, "request_too_long", message, param=param)


def other_tokenizer(param: str, reason: str) -> ProblemError:
    """422: ids of another model's tokenizer; the message names the setting of the client that sends them by default."""
    hint = "send texts instead (in LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False)"
    return bad_token_ids(param, f"{reason}; {hint}")


def not_found(status: int = 404) -> ProblemError:
    """404 or 405: no route has this path, or this path with this method."""
    if status == 405:
        return ProblemError(405, "method_not_allowed", "this path takes another method: /openapi.json lists the routes")
    return ProblemError(404, "not_found", "no route has this path: /openapi.json lists the routes")


def bad_token_ids(param: str, reason: str) -> ProblemError:
    """422: ids that the model's tokenizer cannot have produced."""
    return ProblemError(422, "invalid_token_ids", f"{param}: {reason}", param=param)


def bad_dimensions(limit: int) -> ProblemError:
    """422: more dimensions than the model's vectors have."""
    message = f"dimensions must be from 1 to {limit}, the width of this model's vectors"
    return ProblemError(422, "invalid_dimensions", message, param="dimensions")


def unknown_prompt(names: Sequence[str]) -> ProblemError:
    """422: the model has no prompt of this name."""
    known = f"must be one of {', '.join(names)}" if names else "must be null: the model has no prompts"
    return ProblemError(422, "invalid_prompt_name", f"prompt_name {known}", param="prompt_name")


def prompt_before_ids(param: str) -> ProblemError:
    """422: a prompt is text, and cannot precede token ids."""
    return ProblemError(422, "prompt_before_ids", f"{param} must be strings where a prompt precedes them", param=param)


def no_key() -> ProblemError:
    """401: no key, or an unknown one."""
    problem = ProblemError(401, "invalid_api_key", "send a valid key as Authorization: Bearer <key>")
    problem.headers = {"WWW-Authenticate": "Bearer"}
    return problem


def wrong_scope(scope: str) -> ProblemError:
    """403: a valid key without the scope that the route needs."""
    return ProblemError(403, "insufficient_scope", f"this key lacks the scope {scope}, which this route needs")


def body_too_large(limit: int) -> ProblemError:
    """413: the body is refused before it is parsed."""
    return ProblemError(413, "body_too_large", f"the body is larger than max_body_bytes={limit}: split the request")


def head_too_large(limit: int) -> ProblemError:
    """431: the address and the headers are refused by the proxy."""
    return ProblemError(431, "head_too_large", f"the address and the headers have more than {limit} bytes")


def body_timeout(limit_s: float) -> ProblemError:
    """408: the body arrived too slowly."""
    return ProblemError(408, "body_timeout", f"the body took longer than body_timeout_s={limit_s:g} to arrive")


def request_timeout(limit_s: float) -> ProblemError:
    """504: not answered in time; texts that still waited were dropped."""
    message = f"not answered within request_timeout_s={limit_s:g}: send fewer or shorter texts, or try again"
    return ProblemError(504, "request_timeout", message)


def too_many_requests(limit: int) -> ProblemError:
    """429: the replica has reached its limit of requests."""
    message = f"the server holds max_requests={limit} requests already; try again in 1 s"
    return ProblemError(429, "too_many_requests", message, retry_after_s=1)


def rate_limited(retry_after_s: int) -> ProblemError:
    """429: the key has used its requests or tokens of a minute."""
    message = f"this key has used its rate on this replica; try again in {retry_after_s} s"
    return ProblemError(429, "rate_limited", message, retry_after_s=retry_after_s)


def no_head(needed: HeadKind, served: HeadKind) -> ProblemError:
    """404: the served model lacks the head that the route needs."""
    names: dict[HeadKind, str] = {
        "masked-lm": "a masked-language head",
        "sequence": "a sequence-classification head",
        "token": "a token-classification head",
        "embedding": "no head on its encoder",
    }
    message = (
        f"this route needs {names[needed]}, and the served model has {names[served]}: "
        "serve a fine-tuned export that has one"
    )
    return ProblemError(404, "no_such_head", message)


def no_pairs() -> ProblemError:
    """404: a cross-encoder whose architecture marks the second text of a pair, which is not served."""
    message = "the served model marks the texts of a pair (token types), which this endpoint does not compute"
    return ProblemError(404, "no_such_head", message)


def no_mask(param: str, mask: str) -> ProblemError:
    """422: a text without a mask."""
    return ProblemError(422, "no_mask", f"{param} must hold the mask token {mask} at least once", param=param)


def queue_full(limit: int, retry_after_s: int) -> ProblemError:
    """429: too many texts wait already."""
    message = f"the queue is full (max_queued_texts={limit}); try again in {retry_after_s} s"
    return ProblemError(429, "queue_full", message, retry_after_s=retry_after_s)


def queue_too_slow(limit_s: float, retry_after_s: int) -> ProblemError:
    """429: a request that joined the queue now would end in a 504."""
    message = f"the queue takes longer than request_timeout_s={limit_s:g}; try again in {retry_after_s} s"
    return ProblemError(429, "queue_full", message, retry_after_s=retry_after_s)


def internal_error() -> ProblemError:
    """500: a server bug."""
    return ProblemError(500, "internal_error", "the server failed on this request; its log names the kind of error")


def of_proxy(status: int) -> ProblemError | None:
    """Return the refusal that replaces an answer of Ray Serve's proxy, None for a status that is not the proxy's refusal."""
    if status == 429:
        return ProblemError(429, "proxy_full", "every replica is busy; try again in 1 s", retry_after_s=1)
    if status in (502, 503):
        return ProblemError(503, "unavailable", "no replica can answer now; try again in 1 s", retry_after_s=1)
    if status == 408:
        return ProblemError(504, "request_timeout", "not answered within the proxy's time; try again")
    if status == 404:
        return ProblemError(404, "not_found", "no application is served below this path")
    return internal_error() if status >= 500 else None


def invalid_json(position: int | None = None) -> ProblemError:
    """400: the body is not JSON, not UTF-8, or nested too deeply."""
    where = "" if position is None else f" at character {position}"
    return ProblemError(400, "invalid_json", f"the body is not valid JSON in UTF-8{where}")


def invalid_body(errors: Sequence[Any], schema: type[Schema] | None) -> ProblemError:
    """400 for a body that is not JSON, 422 for wrong fields or types; ``errors`` as FastAPI lists them."""
    first = errors[0]
    if first["type"] == "json_invalid":
        position = first["loc"][-1]
        return invalid_json(position if isinstance(position, int) else None)
    loc = first["loc"][1:] if first["loc"][:1] == ("body",) else first["loc"]
    if not loc:
        message = "the body must be a JSON object with Content-Type: application/json"
        return ProblemError(422, "invalid_body", message)
    place = _place(loc, schema)
    if first["type"] == "extra_forbidden":
        # The name of an unknown field is the client's text: it is not repeated.
        known = f"an unknown field; known fields: {', '.join(place.inside)}"
        return ProblemError(422, "unknown_field", f"{place.name or 'the body'} has {known}", param=place.name)
    if place.name is None:
        return ProblemError(422, "invalid_body", "the body does not match the schema of this route in /openapi.json")
    if first["type"] == "missing":
        return ProblemError(422, "missing_field", f"{place.name} is required", param=place.name)
    # pydantic's messages say what would be right and contain no input.
    reason = f"{place.name}: {first['msg']}"
    if place.form:
        reason = f"{place.name} must be {place.form}"
    elif place.inside:
        reason = f"{place.name} must be an object with the fields {', '.join(place.inside)}"
    return ProblemError(422, f"invalid_{loc[0]}", reason, param=place.name)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an error is: made of the names of this package's fields and of positions, never of a client's names."""

    name: str | None
    """Such as ``parameters.top_k`` or ``texts[3]``; None for the body itself."""
    form: str | None
    """What the field must be, if it takes several forms."""
    inside: tuple[str, ...]
    """Fields of the object that is expected there; empty for another value."""


def _place(loc: Sequence[str | int], schema: type[Schema] | None) -> _Place:
    """Follow an error's position as far as it names known fields; what follows is a name of pydantic's or of the client's."""
    name: str | None = None
    form: str | None = None
    for part in loc:
        if schema is not None and part in schema.model_fields:
            field = schema.model_fields[str(part)]
            name = f"{name}.{part}" if name else str(part)
            form = next((found.text for found in field.metadata if isinstance(found, Form)), None)
            kinds = (field.annotation, *get_args(field.annotation))
            schema = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Schema)), None)
        elif isinstance(part, int) and name and schema is None and form is None:
            name = f"{name}[{part}]"
        else:
            break
    return _Place(name, form, tuple(schema.model_fields) if schema else ())
