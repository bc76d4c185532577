"""The OpenAPI document is complete, and the server does what it says."""

from __future__ import annotations

import asyncio
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks

from fs9.errors import KINDS
from fs9.http.openapi import openapi_document
from fs9.http.page import docs_page
from fs9.wire.route import PREFIX, TENANT_PREFIX
from fs9.wire.routes import ROUTES, errors_of
from tests.fix_http import token
from tests.http.calls import mkdir, open_, put

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2
    from schemathesis import Case

    from tests.fix_http import Server, StartServer

EXAMPLES_PER_OPERATION = 8

CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(document: dict[str, Any], reference: str) -> Any:
    node: Any = document
    for name in reference.removeprefix("#/").split("/"):
        node = node[name]
    return node


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    document = openapi_document()
    used = set(references(document))
    for reference in used:
        assert resolve(document, reference)
    for section in ("schemas", "responses", "examples"):
        for name in document["components"][section]:
            if name != "RouteNotFound":  # an example for paths that are no route
                assert f"#/components/{section}/{name}" in used


def test_every_route_is_there_under_both_prefixes_with_head_and_all_its_statuses() -> None:
    document = openapi_document()
    for route in ROUTES:
        prefixes = (PREFIX, TENANT_PREFIX) if route.prefixed else ("",)
        for prefix in prefixes:
            item = document["paths"][prefix + route.path]
            responses = item[route.method.lower()]["responses"]
            statuses = {answer.status for answer in route.answers}
            statuses |= {error.status for error in errors_of(route)}
            assert set(responses) == {str(status) for status in statuses}
            assert ("head" in item) == ("get" in item)


def test_every_kind_of_error_has_an_example_with_its_envelope() -> None:
    examples = openapi_document()["components"]["examples"]
    assert examples.keys() == KINDS.keys()
    for kind, example in examples.items():
        value = example["value"]
        assert (value["kind"], value["code"]) == (kind, KINDS[kind].status)


def test_operation_ids_are_unique() -> None:
    found = [
        operation["operationId"]
        for item in openapi_document()["paths"].values()
        for operation in item.values()
    ]
    assert len(found) == len(set(found))


async def test_a_token_is_asked_for_only_where_one_is_needed(
    server: Server, auth_server: Server
) -> None:
    for one, expected in [(server, []), (auth_server, [{"token": []}])]:
        answer = await one.client(prefix=False).get("openapi.json")
        assert answer.headers["content-type"] == "application/json"
        paths = answer.json()["paths"]
        assert paths["/api/v1/stat"]["get"]["security"] == expected
        assert paths["/health"]["get"]["security"] == []


# -- The page. ------------------------------------------------------------------------------

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Checks that tags are closed in order; collects what it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert name not in {"src", "style", "onclick"}
            if name == "id":
                self.ids.append(value or "")
            if name == "href":
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def test_the_page_is_whole_and_needs_no_network(server: Server) -> None:
    answer = await server.client(prefix=False).get("docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = Page()
    page.feed(answer.text)
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert not re.search(r"url\(|@import", answer.text)
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        assert link == "openapi.json" or link.removeprefix("#") in page.ids
    for route in ROUTES:
        assert route.name in page.ids


def test_the_page_escapes_what_it_shows() -> None:
    document = openapi_document()
    document["paths"]["/health"]["get"]["summary"] = "<b>&"
    assert "&lt;b&gt;&amp;" in docs_page(document)


# -- The server does what the document says. ------------------------------------------------


def operations(document: dict[str, Any]) -> list[Any]:
    schema = schemathesis.openapi.from_dict(document)
    return [result.ok() for result in schema.get_all_operations()]


@pytest.mark.parametrize("auth", [False, True], ids=["open", "token"])
async def test_answers_are_as_documented(start_server: StartServer, auth: bool) -> None:
    """Sends generated requests, right and wrong ones, to every operation."""
    server = await start_server(auth=auth)
    bearer = token("default", "admin") if auth else None
    files = server.client(token=bearer)
    await mkdir(files, "/d")
    await put(files, "/d/a", b"content")
    handle_id = await open_(files, "/d/a", read=True, write=True)
    client = server.client(prefix=False, token=bearer)
    loop = asyncio.get_running_loop()

    def send(case: Case) -> httpx2.Response:
        future = asyncio.run_coroutine_threadsafe(request(client, case), loop)
        return future.result(30)

    def check_all() -> None:
        for operation in operations(openapi_document(auth=auth)):
            check(operation, send, handle_id)

    await loop.run_in_executor(None, check_all)


def check(operation: Any, send: Any, handle_id: str) -> None:
    cases = st.one_of(
        operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode
    )

    @settings(
        max_examples=EXAMPLES_PER_OPERATION,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, known=st.booleans())
    def run(case: Case, known: bool) -> None:
        if known:
            use_known_names(case, handle_id)
        answer = send(case)
        assert answer.status_code != 500, answer.text
        case.validate_response(answer, checks=CHECKS)

    run()


def use_known_names(case: Case, handle_id: str) -> None:
    """Put in names that exist, or nothing but refusals would be seen."""
    known = {"path": "/d/a", "handle_id": handle_id, "ns": "default", "tenant": "default"}
    for fields in (case.query, case.path_parameters, case.body):
        if isinstance(fields, dict):
            for name in known.keys() & fields.keys():
                fields[name] = known[name]


async def request(client: httpx2.AsyncClient, case: Case) -> httpx2.Response:
    """Send the case; schemathesis' own clients would use another event loop."""
    given = case.as_transport_kwargs(base_url=str(client.base_url).rstrip("/"))
    data = given.get("data")
    content = data.encode() if isinstance(data, str) else data
    return await client.request(
        given["method"],
        given["url"],
        params=given["params"],
        headers={name: value.encode("latin-1") for name, value in given["headers"].items()},
        content=content if "json" not in given else None,
        json=given.get("json"),
    )


def test_what_only_one_route_refuses_with_is_its_own() -> None:
    """A 503 of /readyz is not to be kept; one of other routes says nothing about it."""
    document = openapi_document()

    def headers_of_503(path: str) -> set[str]:
        name = document["paths"][path]["get"]["responses"]["503"]["$ref"].rpartition("/")[2]
        return set(document["components"]["responses"][name]["headers"])

    assert headers_of_503("/readyz") - headers_of_503("/livez") == {"cache-control"}
