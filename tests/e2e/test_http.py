"""What HTTP itself asks for, on the real fleet: methods, conditions, dates, retries."""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.e2e.conftest import new_name
from tests.e2e.reference import refused

if TYPE_CHECKING:
    from tests.e2e.documented import Documented
    from tests.fix_fleet import Fleet

_ALL = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"]


@pytest.mark.parametrize("method", _ALL)
def test_other_methods_are_405_with_allow(
    fleet: Fleet, documented: Documented, method: str
) -> None:
    """For every path of the document; `Allow` names exactly the documented methods."""
    with httpx2.Client(base_url=fleet.url, timeout=30) as client:
        for template, methods in documented.paths.items():
            allowed = {name.upper() for name in methods} & set(_ALL)
            if "GET" in allowed:
                allowed.add("HEAD")
            if method in allowed:
                continue
            path = template.replace("{tenant}", "t").replace("{ns}", "default")
            answer = client.request(method, path)
            assert answer.status_code == 405, (method, path)
            assert set(answer.headers["allow"].split(", ")) == allowed, path
            if method != "HEAD":
                assert refused(answer)[1] == "MethodNotAllowed"


def test_head_is_get_without_the_body(api: httpx2.Client, documented: Documented) -> None:
    """Same status and headers, on every GET route, in success and refusal."""
    api.put("upload?path=/f.txt", content=b"x" * 3000).raise_for_status()
    tenant = api.base_url.path.split("/")[1]
    for template, methods in documented.paths.items():
        if "get" not in methods:
            continue
        for query in ("", "?path=/f.txt", "?path=/", "?path=/none"):
            path = template.replace("{tenant}", tenant).replace("{ns}", "default") + query
            url = api.base_url.copy_with(raw_path=path.encode())
            got, head = api.get(url), api.head(url)
            assert head.content == b""
            assert head.status_code == got.status_code, path
            varying = {"date", "connection", "x-request-id"}
            if "/api/v1/" not in template:
                varying.add("x-fs9-slot")  # answered by whichever worker it reaches
            if template in {"/metrics"} or template.endswith(("/events", "/chain", "/statfs")):
                varying.add("content-length")
            left = {name: value for name, value in got.headers.items() if name not in varying}
            right = {name: value for name, value in head.headers.items() if name not in varying}
            assert left == right, path


def test_unknown_paths_are_404_in_the_envelope(fleet: Fleet) -> None:
    with httpx2.Client(base_url=fleet.url) as client:
        for path in (
            "/",
            "/favicon.ico",
            "/api",
            "/api/v1",
            "/api/v1/",
            "/api/v1/none",
            "/api/v1/stat/",
            "/api/v1/stat/x",
            "/api/v2/stat",
            "/t/api/v1/none",
            "/t/api/v1",
            "/t/u/api/v1/stat",
            "/api/v1/health",
            "/t/health",
        ):
            for method in ("GET", "POST"):
                assert refused(client.request(method, path))[:2] == (404, "RouteNotFound"), path


@pytest.mark.parametrize("tenant", ["BAD", "-x", "a.b", "x" * 65, "%61", "a%20b", "é", "a;b"])
def test_a_tenant_that_no_namespace_can_be(fleet: Fleet, tenant: str) -> None:
    answer = httpx2.get(f"{fleet.url}/{tenant}/api/v1/stat?path=/")
    assert refused(answer)[0] == 400
    assert "Namespace name " in answer.json()["error"]


# -- Conditions -----------------------------------------------------------------------------


class File:
    """A file of 10 bytes and its version."""

    def __init__(self, api: httpx2.Client, base: str) -> None:
        self.api = api
        self.query = {"path": f"{base}/f"}
        self.none = {"path": f"{base}/none"}
        answer = api.put("upload", params=self.query, content=b"0123456789")
        self.etag = answer.headers["etag"]
        self.modified = self.get().headers["last-modified"]

    def get(self, missing: bool = False, **headers: str) -> httpx2.Response:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        query = self.none if missing else self.query
        return self.api.get("download", params=query, headers=fields)


@pytest.fixture
def file(api: httpx2.Client, base: str) -> File:
    return File(api, base)


def test_the_etag_is_one_and_strong(file: File) -> None:
    """stat, upload and download tell the same version; a change gives another."""
    stat = file.api.get("stat", params=file.query).json()["etag"]
    assert file.etag == f'"{stat}"' == file.get().headers["etag"]
    again = file.api.put("upload", params=file.query, content=b"0123456789").headers["etag"]
    assert again != file.etag


_OLD = formatdate(1_000_000_000, usegmt=True)
_NEW = formatdate(4_000_000_000, usegmt=True)


def test_conditional_downloads(file: File) -> None:
    """RFC 9110, section 13: the whole table for GET."""
    tag, other = file.etag, '"other"'
    for headers, status in (
        ({"if_none_match": tag}, 304),
        ({"if_none_match": f"W/{tag}"}, 304),
        ({"if_none_match": f'{other}, {tag}, "x"'}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": other}, 200),
        ({"if_match": tag}, 200),
        ({"if_match": "*"}, 200),
        ({"if_match": f"{other},{tag}"}, 200),
        ({"if_match": other}, 412),
        ({"if_match": f"W/{tag}"}, 412),  # If-Match compares strongly
        ({"if_modified_since": file.modified}, 304),
        ({"if_modified_since": _OLD}, 200),
        ({"if_modified_since": "yesterday"}, 200),
        ({"if_unmodified_since": _OLD}, 412),
        ({"if_unmodified_since": _NEW}, 200),
        ({"if_none_match": other, "if_modified_since": _NEW}, 200),  # the tag has precedence
        ({"if_match": tag, "if_unmodified_since": _OLD}, 200),
        ({"if_match": tag, "if_none_match": tag}, 304),
    ):
        answer = file.get(**headers)
        assert answer.status_code == status, headers
        assert answer.headers["etag"] == tag
        if status == 304:
            assert answer.content == b""
            assert "content-length" not in answer.headers
    for headers in ({"if_match": "*"}, {"if_none_match": "*"}, {"if_match": other}):
        assert refused(file.get(missing=True, **headers))[0] == 404


def test_if_range(file: File) -> None:
    """A range of the version that was meant, else all of the new one."""
    for validator, status in (
        (file.etag, 206),
        (f"W/{file.etag}", 200),
        ('"other"', 200),
        (_OLD, 200),
        ("nonsense", 200),
    ):
        answer = file.get(range="bytes=2-4", if_range=validator)
        assert answer.status_code == status, validator
        assert answer.content == (b"234" if status == 206 else b"0123456789")
    assert file.get(range="bytes=50-", if_range='"other"').status_code == 200
    assert file.get(range="bytes=2-4", if_none_match=file.etag).status_code == 304
    assert file.get(range="bytes=2-4", if_match='"other"').status_code == 412


@pytest.mark.parametrize("change", ["upload", "wstat", "rename", "truncate", "remove", "open"])
def test_conditional_changes(file: File, change: str) -> None:
    """A failed condition is 412 and changes nothing; one that holds lets the change through."""
    api, query = file.api, file.query

    def attempt(missing: bool = False, **fields: str) -> httpx2.Response:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        where = file.none if missing else query
        path = where["path"]
        changes: dict[str, dict[str, Any]] = {
            "wstat": {"mode": 0o600},
            "rename": {"name": path + "2"},
            "truncate": {"size": 3},
        }
        if change == "upload":
            return api.put("upload", params=where, content=b"new", headers=headers)
        if change == "remove":
            return api.delete("remove", params=where, headers=headers)
        if change == "open":
            flags = {"write": True, "truncate": True}
            return api.post("open", json={"path": path, "flags": flags}, headers=headers)
        return api.post("wstat", json={"path": path, "changes": changes[change]}, headers=headers)

    before = api.get("stat", params=query).json()
    for fields in (
        {"if_match": '"other"'},
        {"if_match": f"W/{file.etag}"},
        {"if_none_match": "*"},
        {"if_none_match": file.etag},
        {"if_unmodified_since": _OLD},
    ):
        answer = attempt(**fields)
        assert refused(answer)[:2] == (412, "PreconditionFailed"), fields
    after = api.get("stat", params=query).json()
    assert {**after, "atime": 0} == {**before, "atime": 0}
    assert file.get().content == b"0123456789"
    missing = attempt(missing=True, if_match="*")
    assert refused(missing)[0] in ({412} if change == "upload" else {404, 412})
    assert refused(attempt(missing=True, if_match=file.etag))[0] in {404, 412}
    assert api.get("stat", params=file.none).status_code == 404
    held = attempt(if_match=f'"other", {file.etag}', if_none_match='"x"')
    assert held.is_success, held.text


@pytest.mark.parametrize("value", ["other", '"open', "W/", "*, *", ",", '"a" "b"', "**"])
def test_conditions_that_are_none(file: File, value: str) -> None:
    """A malformed list of tags never lets a change through unconditionally."""
    for name in ("if-match", "if-none-match"):
        headers = {name: value}
        answer = file.api.put("upload", params=file.query, content=b"new", headers=headers)
        assert refused(answer)[0] in {400, 412}, (name, value)
    assert file.get().content == b"0123456789"


def test_every_refusal_for_the_moment_says_when_to_come_back(documented: Documented) -> None:
    """Retry-After is promised on each 429 and 503."""
    for template, methods in documented.paths.items():
        for method, operation in methods.items():
            for status in ("429", "503"):
                says = documented._resolve(operation["responses"].get(status))
                if says is not None:
                    names = {name.lower() for name in says.get("headers", {})}
                    assert "retry-after" in names, (method, template, status)


def test_absolute_targets(fleet: Fleet) -> None:
    """A client of a proxy sends the whole URL (RFC 9112, section 3.2.2)."""
    import socket

    tenant = new_name()
    for target in (f"{fleet.url}/{tenant}/api/v1/mounts", f"/{tenant}/api/v1/mounts"):
        with socket.create_connection(("127.0.0.1", fleet.port), timeout=10) as raw:
            raw.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = raw.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"path":"/mem"' in answer
