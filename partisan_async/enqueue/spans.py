"""OpenTelemetry spans, and their context's way from the caller to the worker.

Without ``opentelemetry-api`` these functions do nothing. By the messaging conventions a call's
insertion is a *producer* span, and each of its runs a *consumer* span. A run's span is a child of
the insertion's and not only linked to it; the conventions allow both for single messages. So the
request, the call and all retries are one trace.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from partisan_async import __version__
from partisan_async.claim import Claim
from partisan_async.exceptions import CancelTask, PostponeTask
from partisan_async.text.masked import without

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer


_tracer: Tracer | None = None
try:
    from opentelemetry import trace as otel
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    pass
else:
    _tracer = otel.get_tracer("partisan_async", __version__)
    _w3c = TraceContextTextMapPropagator()

SYSTEM = "partisan_async"

FLUSH_MILLISECONDS = 1000
"""Maximum time that a worker that ends waits for its spans to be sent."""

_NOTHING: AbstractContextManager[None] = nullcontext()


def enqueuing(
    queue_name: str | None, processor_class: str | None, count: int | None = None
) -> AbstractContextManager[Span | None]:
    """Return a span to enqueue in, for a ``with`` block.

    :param queue_name, processor_class: ``None``: the calls have several.
    :param count: number of calls; ``None``: a single call by ``delay()``.
    """
    if _tracer is None or (_is_idle() and not otel.get_current_span().get_span_context().is_valid):
        return _NOTHING
    attributes = _attributes("enqueue", "send", queue_name, processor_class)
    if count is not None:
        attributes["messaging.batch.message_count"] = count
    name = "enqueue" if processor_class is None else f"enqueue {processor_class}"
    return _tracer.start_as_current_span(name, kind=SpanKind.PRODUCER, attributes=attributes)


def traceparent() -> str | None:
    """Return the current span's id in the W3C's format; ``None`` if there is no span."""
    if _tracer is None or not otel.get_current_span().get_span_context().is_valid:
        return None
    carrier: dict[str, str] = {}
    _w3c.inject(carrier)
    return carrier.get("traceparent")


def running(claim: Claim) -> AbstractContextManager[Span | None]:
    """Return a span to run a claim in, for a ``with`` block; a child of the insertion's span."""
    if _tracer is None or (_is_idle() and claim.traceparent is None):
        return _NOTHING
    context = Context()
    if claim.traceparent is not None:
        context = _w3c.extract({"traceparent": claim.traceparent}, context)
    attributes = _attributes("run", "process", claim.queue_name, claim.processor_class)
    attributes |= {
        "messaging.message.id": str(claim.id),
        "partisan.claim_seq": claim.claim_seq,
        "partisan.tries": claim.tries,
    }
    return _tracer.start_as_current_span(
        f"run {claim.processor_class}",
        context=context,
        kind=SpanKind.CONSUMER,
        attributes=attributes,
    )


def set_task_id(span: Span | None, task_id: int) -> None:
    """Set the task's id on the span of its insertion."""
    if span is not None:
        span.set_attribute("messaging.message.id", str(task_id))


def failed(
    span: Span | None, error: BaseException, failure_class: str, secrets: Sequence[str]
) -> None:
    """Record what a run raised on its span; a postpone or a cancel is not an error.

    :param failure_class: the error's class, as the row has it.
    :param secrets: texts to mask in the message and the traceback.
    """
    if span is None:
        return
    if isinstance(error, PostponeTask):
        span.add_event("postponed")
        return
    if isinstance(error, CancelTask):
        span.add_event("cancelled")
        return
    description = ""
    with suppress(BaseException):  # its __str__ may raise anything
        description = without(secrets, str(error))
        told = without(secrets, "".join(traceback.format_exception(error)))
        masked = {"exception.message": description, "exception.stacktrace": told}
        span.record_exception(error, masked if secrets else None)
    span.set_attribute("error.type", failure_class)
    span.set_status(StatusCode.ERROR, description)


def flush() -> None:
    """Send the spans that wait to be sent, before this process ends."""
    if _tracer is not None:
        provider: Any = otel.get_tracer_provider()
        if hasattr(provider, "force_flush"):
            provider.force_flush(FLUSH_MILLISECONDS)


def _is_idle() -> bool:
    """Tell whether no SDK is configured: then spans are only needed to pass a context on."""
    return isinstance(otel.get_tracer_provider(), otel.ProxyTracerProvider)


def _attributes(
    operation: str, kind: str, queue_name: str | None, processor_class: str | None
) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
    }
    if queue_name is not None:
        attributes["messaging.destination.name"] = queue_name
    if processor_class is not None:
        attributes["partisan.processor"] = processor_class
    return attributes
