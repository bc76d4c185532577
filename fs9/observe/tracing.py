"""Traces: spans of requests and of their steps, sent by OTLP over gRPC. OpenTelemetry's home.

Without an endpoint in the settings nothing of this is created and the library is not imported.
The SDK itself reads the other `OTEL_…` variables (service name, sampler, headers).
"""

from __future__ import annotations

import contextlib
import importlib.util
import threading
from typing import TYPE_CHECKING, cast

import fs9
from fs9.config import ConfigError
from fs9.errors import Fs9Error
from fs9.observe.request import TRAIL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

    from fs9.observe.request import Trail

#: At shutdown: how long the last spans may take to leave.
_FLUSH_S = 2.0
_CARRIED = ("traceparent", "tracestate")


def check(endpoint: str | None) -> None:
    """Raise ConfigError when an endpoint is set and the library is not there."""
    if endpoint and importlib.util.find_spec("opentelemetry") is None:
        raise ConfigError(
            "tracing.otlp_endpoint is set (perhaps by OTEL_EXPORTER_OTLP_ENDPOINT), but"
            " OpenTelemetry is not installed: pip install 'fs9[otel]', or unset it"
        )


class Tracing:
    """The tracer of one process. Make it after the fork: it has a thread and a channel."""

    def __init__(self, endpoint: str, *, instance_id: str, slot: int) -> None:
        """Raises ConfigError when the library is not installed."""
        check(endpoint)
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:  # a part of it is missing
            raise ConfigError(f"tracing.otlp_endpoint: {error}: pip install 'fs9[otel]'") from None
        identity: dict[str, str | int] = {
            "service.version": fs9.__version__,
            "service.instance.id": instance_id,
            "fs9.slot": slot,
        }
        resource = Resource.create(identity)
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "fs9"}))
        self._trace = trace
        # Its own exit handler would flush a second time; `close` does it in order.
        self._provider: TracerProvider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._exporter = OTLPSpanExporter(endpoint=_with_scheme(endpoint))
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("fs9", fs9.__version__)
        propagator = TraceContextTextMapPropagator()
        self._extract, self._inject = propagator.extract, propagator.inject

    def begin(self, trail: Trail, name: str, headers: Mapping[str, str]) -> None:
        """Begin the span of a request, below the caller's if it sent a `traceparent`."""
        carrier = {key: headers[key] for key in _CARRIED if key in headers}
        parent = self._extract(carrier) if carrier else None
        span = self._tracer.start_span(name, parent, self._trace.SpanKind.SERVER)
        trail.span = span
        trail.trace_id = f"{span.get_span_context().trace_id:032x}"

    def end(self, trail: Trail, status: int, attributes: Mapping[str, str | int]) -> None:
        """End the span of a request."""
        span = cast("Span", trail.span)
        span.set_attributes({"http.response.status_code": status, **attributes})
        if status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    @contextlib.contextmanager
    def step(self, name: str, **attributes: str | int) -> Iterator[None]:
        """A span of a part of the request in progress; nothing outside of requests."""
        trail = TRAIL.get()
        if trail is None or trail.span is None:
            yield
            return
        parent = self._trace.set_span_in_context(cast("Span", trail.span))
        span = self._tracer.start_span(name, parent, attributes=attributes)
        try:
            yield
        except Fs9Error as error:
            span.set_attribute("error.type", error.kind)
            if error.status >= 500:
                span.set_status(self._trace.StatusCode.ERROR, str(error))
            raise
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(self._trace.StatusCode.ERROR)
            raise
        finally:
            span.end()

    def call(self, name: str, address: str) -> AbstractContextManager[None]:
        """The span of a call of another server."""
        return self.step(name, **{"server.address": address})

    def carrier(self) -> dict[str, str]:
        """The headers that tell another server to which trace a call belongs."""
        trail = TRAIL.get()
        if trail is None or trail.span is None:
            return {}
        carrier: dict[str, str] = {}
        self._inject(carrier, self._trace.set_span_in_context(cast("Span", trail.span)))
        return carrier

    def close(self) -> None:
        """Send what is left, within a moment; blocks.

        The SDK sends all that waits, batch by batch, however long a receiver that hangs takes for
        each. Closing the channel makes every call fail at once.
        """
        end = threading.Timer(_FLUSH_S, self._exporter.shutdown)
        end.start()
        self._provider.shutdown()
        end.cancel()


def _with_scheme(endpoint: str) -> str:
    """gRPC endpoints may come as HOST:PORT, which is meant without TLS."""
    return endpoint if "://" in endpoint else f"http://{endpoint}"
