"""`/docs`: the OpenAPI document as one page of HTML that needs no script and no network."""

from __future__ import annotations

import json
import re
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fs9.wire.route import PREFIX, SLOT, TENANT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]

_TAGS = {"files": "Files", "namespaces": "Namespaces", "server": "Server"}
_CODE = re.compile(r"`([^`]+)`")


def docs_page(document: Json) -> str:
    """The page for an OpenAPI document of ours."""
    style = files("fs9.http").joinpath("static", "docs.css").read_text("utf-8")
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>fs9 API</title><style>{style}</style></head><body>",
            *_header(document),
            "<main>",
            *_operations(document),
            *_types(document),
            "</main></body></html>",
        ]
    )


def _text(text: str) -> str:
    """A text as HTML, with what is between backquotes as code."""
    return _CODE.sub(r"<code>\1</code>", escape(text, quote=False))


def _header(document: Json) -> Iterator[str]:
    info = document["info"]
    yield f"<header><h1>fs9 <small>{escape(info['version'])}</small></h1>"
    for paragraph in info["description"].strip().split("\n\n"):
        yield f"<p>{_text(paragraph)}</p>"
    yield '<p>For programs: <a href="openapi.json">openapi.json</a></p><nav>'
    for path, method, operation in _listed(document):
        name = escape(operation["operationId"])
        short = escape(path.removeprefix(PREFIX))
        yield f'<a href="#{name}"><b class="{method}">{method.upper()}</b> {short}</a>'
    yield "</nav></header>"


def _listed(document: Json) -> list[tuple[str, str, Json]]:
    """(path, method, operation) of every operation once, without the tenants' paths and HEAD."""
    found = [
        (path, method, operation)
        for path, item in document["paths"].items()
        if not path.startswith(TENANT_PREFIX)
        for method, operation in item.items()
        if method != "head"
    ]
    order = list(_TAGS)
    return sorted(found, key=lambda entry: order.index(entry[2]["tags"][0]))


def _operations(document: Json) -> Iterator[str]:
    tag = ""
    for path, method, operation in _listed(document):
        if operation["tags"][0] != tag:
            tag = operation["tags"][0]
            yield f"<h2>{_TAGS[tag]}</h2>"
        yield f'<section id="{escape(operation["operationId"])}">'
        yield f'<h3><b class="{method}">{method.upper()}</b> <code>{escape(path)}</code></h3>'
        yield f"<p>{_text(operation['summary'])}</p>"
        yield from _parameters(operation["parameters"])
        yield from _request(operation.get("requestBody"))
        yield from _responses(
            {status: _resolved(document, one) for status, one in operation["responses"].items()}
        )
        yield "</section>"


def _resolved(document: Json, response: Json) -> Json:
    reference: str = response.get("$ref", "")
    name = reference.rpartition("/")[2]
    found: Json = document["components"]["responses"][name] if reference else response
    return found


def _parameters(parameters: list[Json]) -> Iterator[str]:
    if not parameters:
        return
    yield "<h4>Parameters</h4><table>"
    for param in parameters:
        kind = param["schema"]["type"] + (", required" if param["required"] else "")
        yield f"<tr><td><code>{escape(param['name'])}</code></td>"
        yield f"<td>{escape(param['in'])}, {escape(kind)}</td>"
        yield f"<td>{_text(param['description'])}</td></tr>"
    yield "</table>"


def _request(body: Json | None) -> Iterator[str]:
    if body is None:
        return
    ((media, content),) = body["content"].items()
    yield f"<h4>Body</h4><p>{_shape(content.get('schema'), media)}</p>"
    yield from _example(content.get("example"))


def _responses(responses: Json) -> Iterator[str]:
    yield "<h4>Answers</h4><table>"
    refused = []
    for status, response in responses.items():
        if int(status) >= 400:
            refused.append((status, response))
            continue
        yield f"<tr><td><b>{status}</b></td><td>{_text(response['description'])} "
        for media, content in response.get("content", {}).items():
            yield _shape(content.get("schema"), media)
            yield from _example(content.get("example"))
        yield f"</td></tr>{''.join(_headers(response))}"
    yield f"</table><details><summary>Refusals: {len(refused)} statuses</summary><table>"
    for status, response in refused:
        kinds = " ".join(
            f"<code>{escape(kind)}</code>"
            for kind in response["content"]["application/json"]["examples"]
        )
        yield f"<tr><td><b>{status}</b></td><td>{kinds}</td></tr>"
    yield "</table></details>"


def _headers(response: Json) -> Iterator[str]:
    for name, header in response.get("headers", {}).items():
        if name == SLOT:  # on every answer; the introduction says so
            continue
        text = _text(header["description"])
        yield f"<tr><td></td><td><code>{escape(name)}</code> {text}</td></tr>"


def _shape(schema: Json | None, media: str) -> str:
    """A short name of a body's type, linked to its description."""
    if schema is None:
        return f"<code>{escape(media)}</code>"
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#type-{name}">{name}</a>'
    if schema.get("type") == "array":
        return f"array of {_shape(schema['items'], media)}"
    return f"<code>{escape(media if schema.get('format') == 'binary' else _type(schema))}</code>"


def _type(schema: Json) -> str:
    """The name of a JSON type, or the values of an enumeration."""
    if "enum" in schema:
        return " or ".join(str(value) for value in schema["enum"])
    return str(schema.get("type", "any"))


def _example(example: object) -> Iterator[str]:
    if example is not None:
        yield f"<pre>{escape(json.dumps(example, indent=2), quote=False)}</pre>"


def _types(document: Json) -> Iterator[str]:
    yield "<h2>Types</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield f'<section id="type-{escape(name)}"><h3>{escape(name)}</h3>'
        if "description" in schema:
            yield f"<p>{_text(schema['description'])}</p>"
        if "enum" in schema:
            values = ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
            yield f"<p>One of {values}.</p>"
        yield from _fields(schema)
        yield "</section>"


def _fields(schema: Json) -> Iterator[str]:
    properties = schema.get("properties", {})
    if not properties:
        return
    required = schema.get("required", [])
    yield "<table>"
    for name, field in properties.items():
        kinds = [_shape(option, "any") for option in field.get("anyOf", [field])]
        kind = " or ".join(kinds) + (", required" if name in required else "")
        yield f"<tr><td><code>{escape(name)}</code></td><td>{kind}</td></tr>"
    yield "</table>"
