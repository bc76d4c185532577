"""The promises about flags, strict JSON, and bytes in and out, over real sockets."""

from __future__ import annotations

import random
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.reference import Reference, raises, refused

if TYPE_CHECKING:
    import httpx2

# -- Open flags -----------------------------------------------------------------------------


def test_append(reference: Reference, base: str) -> None:
    path = f"{base}/f"
    reference.write_file(path, b"start")
    handles = [reference.open(path, write=True, append=True) for _ in range(2)]
    assert reference.write(handles[0], 0, b"_appended") == 9
    assert reference.write(handles[1], 3, b"_again") == 6
    reference.write(handles[0], 1, b"!")
    assert reference.read_file(path) == b"start_appended_again!"


def test_create_and_truncate(reference: Reference, base: str) -> None:
    path = f"{base}/f"
    reference.write_file(path, b"long content")
    reference.close(reference.open(path, write=True, create=True))
    assert reference.read_file(path) == b"long content"
    reference.write_file(path, b"short")
    assert reference.read_file(path) == b"short"
    with raises("NotFound"):
        reference.open(f"{base}/none", read=True)
    handle_id = reference.open(path, create=True, exclusive=False, write=True)
    reference.close(handle_id)
    with raises("AlreadyExists"):
        reference.open(path, create=True, exclusive=True, write=True)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"path":"/f"}', 422),
        ('{"path":"/f","flags":3}', 422),
        ('{"path":"/f","flags":null}', 422),
        ('{"path":"/f","flags":[]}', 422),
        ('{"path":"/f","flags":{"read":1}}', 422),
        ('{"path":"/f","flags":{"read":"true"}}', 422),
        ('{"path":"/f","flags":{"read":null}}', 422),
        ('{"path":7,"flags":{}}', 422),
        ('{"path":null,"flags":{}}', 422),
        ('{"flags":{}}', 422),
        ("[]", 422),
        ("null", 422),
        ('"text"', 422),
        ("", 400),
        ("{", 400),
        ('{"path":"/f","flags":{}}x', 400),
        ("{'path':'/f'}", 400),
        ('{"path":"\xff","flags":{}}', 400),
        ('{"path":"/f","flags":{}}', 404),
        ('{"path":"/f","flags":{"read":true},"more":[1,{"a":2}]}', 404),
        ('{"path":"/f","flags":{"read":true,"new":1}}', 404),
    ],
)
def test_strict_json(api: httpx2.Client, body: str, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    answer = api.post("open", content=body.encode("latin-1"), headers=headers)
    assert refused(answer)[0] == status


@pytest.mark.parametrize("value", ["-1", "1.0", '"1"', "true", "null", "1e2", "[]"])
@pytest.mark.parametrize("field", ["offset", "size"])
def test_numbers_are_strict(api: httpx2.Client, field: str, value: str) -> None:
    fields = {"handle_id": '"h"', "offset": "0", "size": "1"} | {field: value}
    body = "{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"
    answer = api.post("read", content=body, headers={"Content-Type": "application/json"})
    assert refused(answer)[0] == 422


@pytest.mark.parametrize("changes", [{"mode": -1}, {"mode": 2**32}, {"size": 1.5}, {"uid": "0"}])
def test_changes_are_strict(api: httpx2.Client, changes: dict[str, Any]) -> None:
    assert refused(api.post("wstat", json={"path": "/", "changes": changes}))[0] == 422


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 404),
        ("application/json; charset=utf-8", 404),
        ("Application/JSON", 404),
        ("application/problem+json", 404),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/jsonp", 415),
        (None, 415),
    ],
)
def test_content_types(api: httpx2.Client, content_type: str | None, status: int) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = b'{"path":"/none","flags":{"read":true}}'
    assert refused(api.post("open", content=body, headers=headers))[0] == status


@pytest.mark.parametrize("query", ["", "?", "?Path=/", "?path=/&path=/", "?path=/&%70ath=/x"])
def test_missing_and_repeated_query_fields(api: httpx2.Client, query: str) -> None:
    for route in ("stat", "readdir", "statfs", "download", "capabilities"):
        assert refused(api.get(route + query))[0] == 400
    assert refused(api.delete("remove" + query))[0] == 400
    assert refused(api.put("upload" + query, content=b"x"))[0] == 400


@pytest.mark.parametrize("offset", ["", "-1", "+1", "1.0", "x", "0x1", "٣", "1" * 30])
def test_query_numbers_are_strict(reference: Reference, offset: str) -> None:
    handle_id = reference.open("/f", create=True, write=True)
    answer = reference.http.post("write", params={"handle_id": handle_id, "offset": offset})
    assert refused(answer)[0] == 400


def test_nul_bytes_survive(reference: Reference, base: str) -> None:
    content = bytes(range(256)) * 3
    reference.write_file(f"{base}/f", content)
    assert reference.read_file(f"{base}/f") == content
    assert reference.download(f"{base}/f").content == content


# -- Download and upload --------------------------------------------------------------------


def test_upload_and_download(reference: Reference, base: str) -> None:
    content = random.Random(44).randbytes(3_000_000)
    reply = reference.upload(f"{base}/f", content)
    assert reply == {"path": f"{base}/f", "bytes_written": 3_000_000}
    pieces = (content[at : at + 70_001] for at in range(0, len(content), 70_001))
    assert reference.upload(f"{base}/g", pieces)["bytes_written"] == 3_000_000
    for name in "fg":
        query = {"path": f"{base}/{name}"}
        with reference.http.stream("GET", "download", params=query) as answer:
            assert answer.headers["content-length"] == "3000000"
            assert b"".join(answer.iter_bytes()) == content


def test_headers_of_a_download(reference: Reference, base: str) -> None:
    reference.upload(f"{base}/page.html", b"<p>")
    answer = reference.download(f"{base}/page.html")
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == "3"
    assert answer.headers["content-type"].startswith("text/html")
    assert re.fullmatch('"[^"]+"', answer.headers["etag"])
    assert "last-modified" in answer.headers
    reference.upload(f"{base}/empty", b"")
    for byte_range in (None, "bytes=0-", "bytes=0-0", "bytes=-1"):
        answer = reference.download(f"{base}/empty", byte_range)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == "0"


_ALL = range(1000)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-499", _ALL[:500]),
        ("bytes=500-", _ALL[500:]),
        ("bytes=-200", _ALL[800:]),
        ("bytes=0-0", _ALL[:1]),
        ("bytes=999-999", _ALL[999:]),
        ("bytes=0-999", _ALL),
        ("bytes=100-1000000", _ALL[100:]),
        ("bytes=-5000", _ALL),
        ("bytes=0-18446744073709551616", _ALL),
    ],
)
def test_ranges(reference: Reference, base: str, asked: str, expected: range) -> None:
    content = random.Random(46).randbytes(1000)
    reference.upload(f"{base}/f", content)
    answer = reference.download(f"{base}/f", asked)
    assert answer.status_code == 206
    assert answer.content == content[expected.start : expected.stop]
    assert answer.headers["content-range"] == f"bytes {expected.start}-{expected.stop - 1}/1000"
    assert answer.headers["content-length"] == str(len(expected))


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=1000-2000", "bytes=-0"])
def test_unsatisfiable_ranges(reference: Reference, base: str, asked: str) -> None:
    reference.upload(f"{base}/f", b"x" * 1000)
    query, headers = {"path": f"{base}/f"}, {"Range": asked}
    answer = reference.http.get("download", params=query, headers=headers)
    assert refused(answer)[0] == 416
    assert answer.headers["content-range"] == "bytes */1000"


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "lines=0-1", "bytes=0-1,4-5", "bytes=", "bytes=a-b", "0-5", "bytes=--1"]
)
def test_malformed_ranges_are_ignored(reference: Reference, base: str, asked: str) -> None:
    reference.upload(f"{base}/f", b"0123456789")
    answer = reference.download(f"{base}/f", asked)
    assert (answer.status_code, answer.content) == (200, b"0123456789")


def test_an_upload_that_is_too_large(reference: Reference, base: str) -> None:
    reference.upload(f"{base}/f", b"old")

    headers = {"Content-Length": str(300 * 2**20), "Expect": "100-continue"}
    query = {"path": f"{base}/f"}
    request = reference.http.build_request("PUT", "upload", params=query, headers=headers)
    # Sent by hand, since the client would send the body at once.
    with socket.create_connection((request.url.host, request.url.port), timeout=10) as raw:
        fields = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        target = request.url.raw_path.decode()
        raw.sendall(f"PUT {target} HTTP/1.1\r\n{fields}\r\n".encode())
        answer = raw.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"kind":"PayloadTooLarge"' in answer
    assert reference.read_file(f"{base}/f") == b"old"


def test_download_of_what_is_no_file(reference: Reference, base: str) -> None:
    with raises("NotFound"):
        reference.download(f"{base}/none")
    with raises("IsDirectory"):
        reference.download(base)
    with raises("IsDirectory"):
        reference.upload(base, b"x")
