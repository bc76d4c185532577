"""Routes about the server itself."""

from __future__ import annotations

from typing import Any

from fs9 import errors
from fs9.wire import messages
from fs9.wire.route import (
    HTML,
    NOT_KEPT,
    Access,
    Answer,
    Param,
    Route,
)

_PAGE_HEADERS = (
    Param("content-security-policy", "Lets the page load nothing."),
    Param("referrer-policy", "Always `no-referrer`."),
    Param("x-content-type-options", "Always `nosniff`."),
)

SERVICE_ROUTES: tuple[Route, ...] = (
    Route(
        "health",
        "GET",
        "/health",
        "Is this worker answering?",
        (Answer(200, "It is.", messages.HealthReply),),
        access=Access.OPEN,
        prefixed=False,
    ),
    Route(
        "livez",
        "GET",
        "/livez",
        "Does this process answer?",
        (Answer(200, "It does.", messages.LiveReply, headers=NOT_KEPT),),
        access=Access.OPEN,
        prefixed=False,
    ),
    Route(
        "readyz",
        "GET",
        "/readyz",
        "Can this worker serve?",
        (Answer(200, "It can.", messages.ReadyReply, headers=NOT_KEPT),),
        (errors.Overloaded,),
        refusal_headers={503: NOT_KEPT},
        query=(Param("verbose", "List the checks; no value is needed."),),
        access=Access.OPEN,
        prefixed=False,
    ),
    Route(
        "version",
        "GET",
        "/version",
        "What is running here?",
        (Answer(200, "Name, versions, process.", messages.VersionReply),),
        access=Access.OPEN,
        prefixed=False,
    ),
    Route(
        "metrics",
        "GET",
        "/metrics",
        "Counts of the whole fleet, for Prometheus.",
        (Answer(200, "The text format.", media="text/plain; version=0.0.4; charset=utf-8"),),
        (errors.Forbidden, errors.RouteNotFound),
        access=Access.TOKEN,
        prefixed=False,
    ),
    Route(
        "openapi",
        "GET",
        "/openapi.json",
        "This document.",
        (Answer(200, "An OpenAPI 3.1 document.", dict[str, Any]),),
        access=Access.OPEN,
        prefixed=False,
    ),
    Route(
        "docs",
        "GET",
        "/docs",
        "This document, for people.",
        (Answer(200, "A page that needs no network.", media=HTML, headers=_PAGE_HEADERS),),
        access=Access.OPEN,
        prefixed=False,
    ),
)
