"""Traces of a real fleet arrive at a real OTLP receiver, joined to the caller's."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from fs9.auth.tokens import sign
from tests.fix_fleet import SECRET
from tests.observe.otlp_receiver import Receiver, attributes_of
from tests.workers.wire_client import WireClient, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fix_fleet import Fleet

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


async def test_a_request_is_a_trace_of_its_steps(
    start_fleet: Callable[..., Fleet], receiver: Receiver
) -> None:
    """On all lanes: the request below its caller's span, with authentication and provider below.

    Everything is there when the fleet has stopped: what was not sent yet is sent then.
    """
    environ = {"FS9_JWT_SECRET": SECRET, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
    fleet = start_fleet(workers=1, environ=environ)
    now = int(time.time())
    claims = {"sub": "ann", "ns": "default", "roles": ["admin"], "iat": now, "exp": now + 600}
    headers = {"Authorization": f"Bearer {sign(claims, SECRET)}", "traceparent": TRACEPARENT}
    client = await WireClient.connect(fleet.port)
    for method, target, body in (
        ("GET", "stat?path=/", b""),
        ("GET", "stat?path=/none", b""),
        ("PUT", "upload?path=/f", b"hello"),
        ("GET", "statfs?path=/", b""),
    ):
        given = {**headers, "X-Request-ID": f"of-{target[:4]}"}
        await client.send(request(method, f"/api/v1/{target}", headers=given, body=body))
        await client.response()
    await client.send(request("GET", "/health"))
    assert (await client.response()).status == 200
    await client.close()
    assert fleet.stop() == 0
    spans = {span.span_id: span for span in receiver.spans}
    roots = [span for span in spans.values() if span.parent_span_id not in spans]
    names = [f"{method} /api/v1/{name}" for method, name in (("GET", "stat"), ("PUT", "upload"))]
    assert sorted(span.name for span in roots) == sorted(
        [*names, "GET /api/v1/stat", "GET /api/v1/statfs", "GET /health"]
    )
    for root in roots:
        below = {span.name for span in spans.values() if span.parent_span_id == root.span_id}
        shown = attributes_of(root)
        if root.name == "GET /health":
            assert root.trace_id.hex() != TRACE
            assert not below
            continue
        assert root.trace_id.hex() == TRACE
        assert root.parent_span_id.hex() == CALLER
        assert "authenticate" in below
        assert any(name.startswith("pagefs ") for name in below), below
        assert shown["fs9.namespace"] == "default"
        assert shown["enduser.id"] == "ann"
        assert shown["fs9.request_id"] == f"of-{root.name.rpartition('/')[2][:4]}"
    uploads = {span.name for span in spans.values() if span.name.startswith("pagefs ")}
    assert {"pagefs open", "pagefs write", "pagefs close"} <= uploads
    (upload,) = [root for root in roots if root.name == names[1]]
    assert attributes_of(upload)["http.request.body.size"] == 5
    assert any(span.name == "attach" for span in spans.values())
    statuses = {attributes_of(root)["http.response.status_code"] for root in roots}
    assert statuses == {200, 404}
    resource = receiver.resources[0]
    assert (resource["service.name"], resource["fs9.slot"]) == ("fs9", 0)


async def test_handed_and_forwarded_requests_stay_in_their_trace(
    start_fleet: Callable[..., Fleet], receiver: Receiver
) -> None:
    """Each is one span of the owner, below the caller's."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_SERVICE_NAME": "files"}
    fleet = start_fleet(workers=2, environ=environ)
    client = await WireClient.connect(fleet.port)
    for number in range(100):
        target = f"/t{number % 10}/api/v1/stat?path=/"
        await client.send(request("GET", target, headers={"traceparent": TRACEPARENT}))
        assert (await client.response()).status == 200
    await client.close()
    assert fleet.stop() == 0
    roots = [span for span in receiver.spans if span.parent_span_id.hex() == CALLER]
    assert len(roots) == 100
    assert {span.trace_id.hex() for span in roots} == {TRACE}
    assert {item["fs9.slot"] for item in receiver.resources} == {0, 1}
    assert {item["service.name"] for item in receiver.resources} == {"files"}


async def test_a_receiver_that_is_not_there_holds_up_nobody(
    start_fleet: Callable[..., Fleet],
) -> None:
    """Requests are answered, and the fleet stops within its deadline."""
    fleet = start_fleet(workers=1, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:1"})
    client = await WireClient.connect(fleet.port)
    for _ in range(50):
        await client.send(request("GET", "/api/v1/stat?path=/"))
        assert (await client.response()).status == 200
    await client.close()
    started = time.monotonic()
    assert fleet.stop() == 0
    assert time.monotonic() - started < 25, "the deadline of a stop is 30 seconds"


def test_without_the_library_an_endpoint_is_refused_at_start(tmp_path: Path) -> None:
    """In words that say what to do; and without an endpoint nothing of it is imported."""
    program = (
        "import sys\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'opentelemetry': raise ImportError(name)\n"
        "sys.meta_path.insert(0, Gone())\n"
        "import importlib.util\n"
        "real = importlib.util.find_spec\n"
        "fake = lambda n, p=None: None if n == 'opentelemetry' else real(n, p)\n"
        "importlib.util.find_spec = fake\n"
        "from fs9.cli.main import main\n"
        f"sys.exit(main(['serve', '--port', '0', '--data-dir', {str(tmp_path / 'd')!r}]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "pip install 'fs9[otel]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_off_it_is_not_imported() -> None:
    program = (
        "import sys, workers.fleet, workers.worker\n"
        "assert not [name for name in sys.modules if name.startswith(('opentelemetry', 'grpc'))]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
