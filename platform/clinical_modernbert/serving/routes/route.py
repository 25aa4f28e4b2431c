"""One HTTP route as a value: path, handler, scope, body, examples.

The app, the scopes that the gate checks, the fields that a refusal lists, the examples of the OpenAPI document and the test of
the guide are derived from it. A new route is a module here with its handler and one line in ``api.ROUTES``:

    Route("/similarity", tei.similarity, answer=list[float], examples=tei.SIMILARITY_EXAMPLES)
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query

from clinical_modernbert.serving.keys import AnyKey, KeyScope
from clinical_modernbert.serving.models import ServedModels
from clinical_modernbert.serving.schemas import Schema

Examples = Mapping[str, Mapping[str, object]]
"""Bodies by name, as a client would send them."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the endpoint."""

    path: str
    handler: Callable[..., Awaitable[object]]
    """``handler(service, request, response)``; its docstring is the route's description in the OpenAPI document.

    ``service`` is the model that the request chose; a handler that answers for all models has ``models: ServedModels`` instead.
    ``request`` is annotated with the body's schema; a route without a body lacks it. ``response`` is optional and takes headers.
    """
    answer: Any
    """Type of the answer: FastAPI validates and describes it."""
    method: Literal["GET", "POST"] = "POST"
    scope: KeyScope | AnyKey | None = "embed"
    """Scope that a key needs for this route; any: no scope but a key; None: answered without a key."""
    examples: Examples = field(default_factory=dict)
    """Examples for the OpenAPI document; a test sends each of them."""
    is_listed: bool = True
    """Whether the OpenAPI document shows the route; it does not show a second path of the same handler."""
    exclude_none: bool = False
    """Whether fields that are None are left out of the answer."""

    @property
    def body(self) -> type[Schema] | None:
        """Schema of the body; None where the route has no body."""
        schema: type[Schema] | None = inspect.get_annotations(self.handler).get("request")
        return schema

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields that a body may have."""
        return tuple(self.body.model_fields) if self.body else ()

    def add_to(self, api: FastAPI, models: ServedModels) -> None:
        """Let ``api`` answer this route from ``models``."""
        api.add_api_route(
            self.path,
            self._bound(models),
            methods=[self.method],
            name=self.handler.__name__,
            description=inspect.getdoc(self.handler),
            response_model=self.answer,
            response_model_exclude_none=self.exclude_none,
            include_in_schema=self.is_listed,
            openapi_extra=self._document_examples(models.ids[0]) if self.examples else None,
        )

    def _bound(self, models: ServedModels) -> Callable[..., Awaitable[object]]:
        """Return the handler as FastAPI calls it: with the model of the body or the address, which its signature describes."""
        first, *others = inspect.signature(self.handler).parameters.values()
        needs_all = first.annotation is ServedModels
        if not needs_all:
            named = _in_address(models)
            others.append(inspect.Parameter("model", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=named))

        async def answer(**values: Any) -> object:
            if needs_all:
                return await self.handler(models, **values)
            in_address = values.pop("model")
            service = models.choose(getattr(values.get("request"), "model", None), in_address)
            return await self.handler(service, **values)

        by_name = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in others]
        answer.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]
        return answer

    def _document_examples(self, model_id: str) -> dict[str, Any]:
        model = {"model": model_id} if "model" in self.fields else {}
        examples = {
            name: {"summary": name.replace("_", " "), "value": {**example, **model}}
            for name, example in self.examples.items()
        }
        return {"requestBody": {"content": {"application/json": {"examples": examples}}}}


def _in_address(models: ServedModels) -> Any:
    """Return the type of the address's ``model``, described with the names that it may have."""
    about = "Id of a served model, its name alone, or an alias; absent: the first that the key may use."
    return Annotated[str | None, Query(description=about, json_schema_extra={"enum": [*models.names, None]})]
