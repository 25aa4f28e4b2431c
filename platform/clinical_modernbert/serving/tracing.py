"""OpenTelemetry traces of requests, by recipe: what took how long, with counts and never a text.

A request's span goes on with the caller's (``traceparent``) and holds tokenising, encoding and rendering; each forward pass
is a span of its own, since it serves many requests. Where spans go is the environment's (``OTEL_EXPORTER_OTLP_ENDPOINT`` and its
like). The packages are the extra ``trace``, imported only when traces are on.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from clinical_modernbert.errors import RecipeError

Note = Callable[[str, str | int | float], None]
"""Adds an attribute to the open span: a count, a name of ours, never anything that a client sent."""


class Trace(Protocol):
    """Opens a span for the length of a block."""

    def __call__(self, name: str, *, headers: Mapping[str, str] | None = None) -> AbstractContextManager[Note]:
        """``headers`` are those of a request, whose span this is."""


@contextmanager
def no_trace(name: str, *, headers: Mapping[str, str] | None = None) -> Iterator[Note]:
    """Trace nothing."""
    yield _no_note


def open_tracer(*, model_id: str, fraction: float, exporter: Any = None) -> Trace:
    """Return a tracer that keeps ``fraction`` of the traces that begin here; raises ``RecipeError`` without the packages.

    ``exporter`` takes the place of OTLP over HTTP in tests.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        raise RecipeError("tracing.enabled: install clinical-modernbert[trace] to send traces") from None
    provider = TracerProvider(
        resource=Resource.create({"service.name": "clinical-modernbert", "clinical_modernbert.model": model_id}),
        sampler=ParentBasedTraceIdRatio(fraction),
    )
    # Batches go out from a thread of their own; tests want each span at once.
    processor = SimpleSpanProcessor(exporter) if exporter else BatchSpanProcessor(OTLPSpanExporter())
    provider.add_span_processor(processor)
    tracer, propagator = provider.get_tracer("clinical_modernbert.serving"), TraceContextTextMapPropagator()

    @contextmanager
    def trace(name: str, *, headers: Mapping[str, str] | None = None) -> Iterator[Note]:
        context = None if headers is None else propagator.extract(dict(headers))
        kind = SpanKind.INTERNAL if headers is None else SpanKind.SERVER
        # An exception's message may quote what was sent: only that one happened is kept.
        with tracer.start_as_current_span(
            name, context=context, kind=kind, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span.set_attribute
            except BaseException:
                span.set_status(StatusCode.ERROR)
                raise

    return trace


def _no_note(name: str, value: str | int | float) -> None:
    pass
