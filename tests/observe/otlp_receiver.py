"""A real OTLP receiver: a gRPC server that keeps the spans it is sent."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service

if TYPE_CHECKING:
    from typing import Self


class Receiver(service.TraceServiceServicer):
    """Serves at `endpoint` from `with` on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[Any] = []
        self.resources: list[dict[str, Any]] = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        service.add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def Export(self, request: Any, context: Any) -> Any:
        with self._lock:
            for part in request.resource_spans:
                self.resources.append(attributes_of(part.resource))
                for scope in part.scope_spans:
                    self._spans += scope.spans
        return messages.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Any]:
        with self._lock:
            return list(self._spans)

    def wait_for(self, name: str, within_s: float = 60) -> Any:
        """The first span of that name, once it is here."""
        deadline = time.monotonic() + within_s
        gate = threading.Event()
        while time.monotonic() < deadline:
            for span in self.spans:
                if span.name == name:
                    return span
            gate.wait(0.02)
        raise AssertionError(f"no {name} among {[span.name for span in self.spans]}")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()


def attributes_of(item: Any) -> dict[str, Any]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in item.attributes
    }
