"""Compares answers with what the OpenAPI document says of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2

#: Headers of HTTP itself or of every answer.
_OF_ALL = {"date", "x-fs9-slot", "content-length", "content-type", "transfer-encoding"}
_OF_ALL |= {"connection", "x-request-id"}


class Documented:
    """The OpenAPI document of a server."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.paths: dict[str, dict[str, Any]] = document["paths"]
        self._patterns = [
            (re.compile(re.sub(r"\\{[a-z]+\\}", "[^/]+", re.escape(template))), template)
            for template in self.paths
        ]

    def template(self, path: str) -> str | None:
        """The template of a path as it is sent, None for what is no route."""
        found = [template for pattern, template in self._patterns if pattern.fullmatch(path)]
        # A concrete template is more specific than one with a tenant.
        return min(found, key=lambda template: template.count("{"), default=None)

    def check(self, answer: httpx2.Response) -> None:
        """Fail unless status, media type and headers of the answer are documented."""
        request = answer.request
        template = self.template(request.url.raw_path.decode().partition("?")[0])
        if template is None:
            assert answer.status_code in {401, 404}
            return
        methods = self.paths[template]
        method = request.method.lower()
        if method not in methods:
            method = "get" if method == "head" and "get" in methods else next(iter(methods))
            assert answer.status_code in {401, 405} or request.method == "HEAD"
        says = self._resolve(methods[method]["responses"].get(str(answer.status_code)))
        where = f"{request.method} {template} {answer.status_code}"
        assert says is not None, f"{where} is not documented"
        known = {name.lower() for name in says.get("headers", {})} | _OF_ALL
        assert set(answer.headers) <= known, f"{where}: headers {set(answer.headers) - known}"
        kind = answer.headers.get("content-type", "").partition(";")[0]
        kinds = {name.partition(";")[0] for name in says.get("content", {})}
        assert request.method == "HEAD" or not kind or kind in kinds or "*/*" in kinds, (
            f"{where}: {kind} of {kinds}"
        )

    def _resolve(self, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is None or "$ref" not in value:
            return value
        found: Any = self.document
        for name in value["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return dict(found)
