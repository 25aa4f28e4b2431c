"""OpenTelemetry traces of requests: durations and counts, never a text.

A request's span continues the caller's trace (``traceparent``) and contains tokenising, encoding and rendering. Each forward
pass is a separate trace, because it serves many requests. The environment sets where spans are sent
(``OTEL_EXPORTER_OTLP_ENDPOINT`` and related variables). The packages are the extra ``trace``, imported only if traces are
enabled.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from clinical_modernbert.errors import RecipeError

Note = Callable[[str, str | int | float], None]
"""Adds an attribute to the open span: a count or a fixed name, never anything that a client sent."""


class Trace(Protocol):
    """Opens a span for the length of a block."""

    def __call__(self, name: str, *, headers: Mapping[str, str] | None = None) -> AbstractContextManager[Note]:
        """``headers`` are those of a request if the span is a request's."""


@contextmanager
def no_trace(name: str, *, headers: Mapping[str, str] | None = None) -> Iterator[Note]:
    """Trace nothing."""
    yield _no_note


def open_tracer(*, model_id: str, fraction: float, exporter: Any = None) -> Trace:
    """Return a tracer that keeps ``fraction`` of the traces that begin here; raises ``RecipeError`` without the packages.

    ``exporter`` replaces OTLP over HTTP in tests.
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
    # The batch processor exports from a thread; tests need each span at once.
    processor = SimpleSpanProcessor(exporter) if exporter else BatchSpanProcessor(OTLPSpanExporter())
    provider.add_span_processor(processor)
    tracer, propagator = provider.get_tracer("clinical_modernbert.serving"), TraceContextTextMapPropagator()

    @contextmanager
    def trace(name: str, *, headers: Mapping[str, str] | None = None) -> Iterator[Note]:
        context = None if headers is None else propagator.extract(dict(headers))
        kind = SpanKind.INTERNAL if headers is None else SpanKind.SERVER
        # An exception's message may quote input: the span records only that one was raised.
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
