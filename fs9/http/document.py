"""`/openapi.json` and `/docs`: the contract, for programs and for people."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from fs9.http.exchange import Reply
from fs9.http.openapi import openapi_document
from fs9.http.page import docs_page
from fs9.wire.codec import encode
from fs9.wire.route import HTML

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange

# The page has one style sheet of its own and nothing else: no script, no image, no network.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_DOCS_HEADERS = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
)


async def openapi(x: Exchange) -> Reply:
    return Reply(200, _openapi(auth=x.context.services.verifier is not None))


async def docs(x: Exchange) -> Reply:
    page = _docs(auth=x.context.services.verifier is not None)
    return Reply(200, page, HTML, _DOCS_HEADERS)


@cache
def _openapi(*, auth: bool) -> bytes:
    return encode(openapi_document(auth=auth))


@cache
def _docs(*, auth: bool) -> bytes:
    return docs_page(openapi_document(auth=auth)).encode()
