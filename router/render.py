"""Renders the configuration files of nginx, Envoy and systemd. Pure.

Made from the settings, the slots that serve and the paths of their sockets; the templates are in
`router/templates/`. A proxy in front places namespaces by the table of `router.ring`, so its
requests reach their owner without a hand-off.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from fs9.errors import (
    BackendUnavailable,
    Fs9Error,
    HeadersTooLarge,
    MalformedRequest,
    MethodNotAllowed,
    OwnerUnavailable,
    PayloadTooLarge,
    RequestTimeout,
    Timeout,
    UriTooLong,
)
from fs9.wire.problem import RETRY_AFTER_S
from router.ring import BUCKETS, Ring

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fs9.config import Settings

#: A proxy's timeouts beyond the worker's, which so answers first.
_MARGIN_S = 5
#: How many other workers stand in for one that is being replaced.
_SPARES = 2
#: A proxy drops idle connections to a worker before the worker closes them.
_UPSTREAM_KEEP_ALIVE = 0.8
_LINE = 96
#: Where systemd makes the directories of services.
_STATE = "/var/lib"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Front:
    """A proxy in front of a fleet. `sockets` has the front socket of each slot that serves.

    The proxy sends nothing to other slots, such as drained ones.
    """

    settings: Settings
    sockets: Mapping[int, Path]
    #: Where the proxy listens: an IPv4 address, or an IPv6 address in brackets, and the port.
    listen: str
    #: Whose the sockets are.
    user: str
    group: str
    #: nginx: where the workers lend it files; used when `server.accel_redirect` is set.
    lent_dir: Path
    #: nginx: where the script is, where it may write, and where its logs are.
    njs_file: Path
    state_dir: Path
    log_dir: Path
    #: Envoy: the file of its access log.
    access_log: Path

    @property
    def slots(self) -> list[int]:
        """The slots, in order."""
        return sorted(self.sockets)


@dataclass(frozen=True)
class Unit:
    """The fleet as a service of the system."""

    settings: Settings
    user: str
    command: Sequence[str]
    #: The command that has the running one read code and settings anew.
    reload: Sequence[str]
    #: Directories outside of the data directory that mounts may write.
    writable: Sequence[Path] = ()


class _Text(Template):
    """A template with placeholders `@@name`, which are not valid in any of the languages."""

    delimiter = "@@"


def _fill(template: str, **values: object) -> str:
    text = (files("router") / "templates" / template).read_text(encoding="utf-8")
    return _Text(text).substitute(values)


def nginx(front: Front) -> str:
    """A complete configuration of nginx; the script that it loads is `njs`."""
    limits, slots = front.settings.limits, front.slots
    return _fill(
        "nginx.conf",
        key_source=_key_source(front.settings),
        user=front.user if front.group == front.user else f"{front.user} {front.group}",
        accel_map=_accel(front, "nginx-accel-map.conf"),
        accel_locations=_accel(front, "nginx-accel.conf"),
        accel_offer=json.dumps(front.settings.accel_redirect or ""),
        njs_file=front.njs_file,
        state_dir=front.state_dir,
        log_dir=front.log_dir,
        listen=front.listen,
        upstreams="".join(_nginx_upstreams(front, slot) for slot in slots),
        any_servers="\n".join(_nginx_server(front, slot) for slot in slots),
        upstream_keep_alive=_milliseconds(limits.keep_alive_s * _UPSTREAM_KEEP_ALIVE),
        body_bytes_max=max(limits.write_body_bytes_max, limits.json_body_bytes_max),
        head_buffer=f"{_head_kib(front.settings)}k",
        header_timeout=_milliseconds(limits.header_timeout_s + _MARGIN_S),
        request_timeout=_milliseconds(limits.request_timeout_s + _MARGIN_S),
        keep_alive=_milliseconds(limits.keep_alive_s),
        long_digits=len(str(1024 * _head_kib(front.settings))),
        other_error_pages="\n".join(
            "    " + _nginx_error_page(*row) for row in _NGINX_ERRORS if row[2] != 502
        ),
        error_pages="\n".join(_nginx_error_page(*row) for row in _NGINX_ERRORS),
        error_locations="\n".join(_nginx_error_location(*row) for row in _NGINX_ERRORS),
    )


def njs(front: Front) -> str:
    """The script by which nginx knows the owner of a request's namespace."""
    owners = _owners(front.slots)
    return _fill(
        "nginx.js",
        slots=len(front.slots),
        buckets=BUCKETS,
        bucket_mask=BUCKETS - 1,
        auth=json.dumps(front.settings.auth_enabled),
        width=_width(front.slots),
        owners_js="\\\n".join(owners),
    )


def envoy(front: Front) -> str:
    """A complete configuration of Envoy."""
    settings, limits = front.settings, front.settings.limits
    host, _, port = front.listen.rpartition(":")
    lua = _fill(
        "envoy.lua",
        buckets=BUCKETS,
        bucket_mask=BUCKETS - 1,
        auth=json.dumps(settings.auth_enabled),
        width=_width(front.slots),
        two_hosts=_problem(MalformedRequest("more than one host header"), 400),
        owners_lua="\n".join(_owners(front.slots)),
    )
    slots = front.slots
    clusters = [_envoy_cluster(front, str(slot), _with_spares(front, slot)) for slot in slots]
    clusters.append(_envoy_cluster(front, "any", [slots]))
    return _fill(
        "envoy.yaml",
        key_source=_key_source(settings),
        user=front.user,
        listen_host=host.strip("[]"),
        listen_port=port,
        head_kib=_head_kib(settings),
        header_timeout=_seconds(limits.header_timeout_s + _MARGIN_S),
        request_timeout=_seconds(limits.request_timeout_s + _MARGIN_S),
        keep_alive=_seconds(limits.keep_alive_s),
        access_log=json.dumps(str(front.access_log)),
        local_replies="\n".join(_envoy_local_reply(*row) for row in _ENVOY_ERRORS),
        lua=_indented(lua, 18),
        clusters="".join(clusters).rstrip(),
    )


def systemd(unit: Unit) -> str:
    """A unit of systemd."""
    settings = unit.settings
    data_dir = settings.data_dir
    writable = [f"ReadWritePaths={path}" for path in unit.writable]
    if data_dir.is_relative_to(_STATE):  # systemd makes it
        state = data_dir.relative_to(_STATE)
        writable = [f"StateDirectory={state}", "StateDirectoryMode=0700", *writable]
    else:
        writable.insert(0, f"ReadWritePaths={data_dir}")
    at_home = any(path.is_relative_to("/home") for path in (data_dir, *unit.writable))
    return _fill(
        "fs9.service",
        user=unit.user,
        command=" ".join(_quoted(word) for word in unit.command),
        reload=" ".join(_quoted(word) for word in unit.reload),
        data_dir=data_dir,
        writable="\n".join(writable),
        protect_home="no" if at_home else "yes",
        capabilities="CAP_NET_BIND_SERVICE" if 0 < settings.port < 1024 else "",
        shutdown_seconds=f"{settings.limits.shutdown_timeout_s:g}",
        stop_timeout=math.ceil(settings.limits.shutdown_timeout_s + _MARGIN_S),
    )


# -- The table of the ring ------------------------------------------------------------------


def _width(slots: Sequence[int]) -> int:
    """How many base-36 digits a slot number needs."""
    return 1 if max(slots) < len(_DIGITS) else 2


def _owners(slots: Sequence[int]) -> list[str]:
    """The slot of every bucket, in lines."""
    width = _width(slots)
    digits = {slot: _DIGITS[slot // 36] + _DIGITS[slot % 36] for slot in slots}
    text = "".join(digits[slot][-width:] for slot in Ring(slots).table())
    return [text[start : start + _LINE] for start in range(0, len(text), _LINE)]


def _with_spares(front: Front, slot: int) -> list[list[int]]:
    """The slot and its substitutes, in the order in which they are to be tried."""
    slots = front.slots
    after = slots.index(slot) + 1
    spares = [*slots[after:], *slots[: after - 1]][:_SPARES]
    return [[slot], *([spare] for spare in spares)]


def _key_source(settings: Settings) -> str:
    return "token (not verified)" if settings.auth_enabled else "path (the tenant prefix)"


def _head_kib(settings: Settings) -> int:
    """The limit of a request head in the proxy, in KiB; the limits of the workers are below it."""
    limits = settings.limits
    return math.ceil((limits.request_line_bytes_max + limits.headers_bytes_max) / 1024) + 4


# -- nginx ----------------------------------------------------------------------------------

#: (statuses of nginx, the error they are in the server's words, the status answered).
_NGINX_ERRORS: tuple[tuple[tuple[int, ...], Fs9Error, int], ...] = (
    ((400,), MalformedRequest("the request is not HTTP/1.1"), 400),
    ((405,), MethodNotAllowed("the proxy does not pass it on"), 405),
    ((408,), RequestTimeout("the request did not arrive in time"), 408),
    ((413,), PayloadTooLarge("the body is larger than the server takes"), 413),
    ((414,), UriTooLong("the request line is longer than the server takes"), 414),
    ((494,), HeadersTooLarge("the headers are more than the server takes"), 431),
    ((502,), BackendUnavailable("the worker broke off"), 502),
    ((503,), OwnerUnavailable("no worker answers"), 503),
    ((504,), Timeout("waiting for the worker"), 504),
)


def _nginx_upstreams(front: Front, slot: int) -> str:
    own = _nginx_server(front, slot)
    spares = [_nginx_server(front, spare, " backup") for (spare,) in _with_spares(front, slot)[1:]]
    keep_alive = _milliseconds(front.settings.limits.keep_alive_s * _UPSTREAM_KEEP_ALIVE)
    lines = [
        f"    upstream fs9_{slot} {{",
        own,
        *spares,
        "        keepalive 64;",
        f"        keepalive_timeout {keep_alive};",
        "    }",
        f"    upstream fs9_{slot}_once {{",
        own,
        "    }",
    ]
    return "\n".join([*lines, ""])


def _accel(front: Front, template: str) -> str:
    """The directives with which nginx sends files itself; empty when that is off."""
    prefix = front.settings.accel_redirect
    if prefix is None:
        return ""
    return _fill(template, prefix=prefix, directory=json.dumps(f"{front.lent_dir}/"))


def _nginx_server(front: Front, slot: int, more: str = "") -> str:
    return f"        server unix:{front.sockets[slot]} max_fails=1 fail_timeout=1s{more};"


def _nginx_error_page(statuses: tuple[int, ...], _: Fs9Error, answered: int) -> str:
    codes = " ".join(str(status) for status in statuses)
    return f"        error_page {codes} ={answered} /.fs9/{answered};"


def _nginx_error_location(_: tuple[int, ...], error: Fs9Error, answered: int) -> str:
    body = _problem(error, answered)
    retry = f" add_header Retry-After {RETRY_AFTER_S} always;" if answered == 503 else ""
    return (
        f"        location = /.fs9/{answered} {{ internal; default_type application/json;{retry}"
        f" return {answered} '{body}'; }}"
    )


def _problem(error: Fs9Error, status: int) -> str:
    problem = {"error": str(error), "code": status, "kind": error.kind}
    return json.dumps(problem, separators=(",", ":"))


def _milliseconds(seconds: float) -> str:
    return f"{math.ceil(seconds * 1000)}ms"


# -- Envoy ----------------------------------------------------------------------------------

_ENVOY_ERRORS: tuple[tuple[int, Fs9Error], ...] = (
    (400, MalformedRequest("the request is not HTTP/1.1")),
    (408, RequestTimeout("the request did not arrive in time")),
    (431, HeadersTooLarge("the headers are more than the server takes")),
    (502, BackendUnavailable("the worker broke off")),
    (503, OwnerUnavailable("no worker answers")),
    (504, Timeout("waiting for the worker")),
)


def _envoy_local_reply(status: int, error: Fs9Error) -> str:
    body = json.dumps(_problem(error, status))
    retry = (
        "\n              headers_to_add:"
        f'\n              - header: {{key: retry-after, value: "{RETRY_AFTER_S}"}}'
        if status == 503
        else ""
    )
    return (
        "            - filter:\n"
        "                status_code_filter: {comparison: {op: EQ, value:"
        f" {{default_value: {status}, runtime_key: fs9.unused}}}}}}\n"
        "              body_format_override:\n"
        f"                text_format_source: {{inline_string: {body}}}\n"
        "                content_type: application/json" + retry
    )


def _envoy_cluster(front: Front, place: str, priorities: list[list[int]]) -> str:
    limits = front.settings.limits
    return _fill(
        "envoy-cluster.yaml",
        place=place,
        upstream_keep_alive=_seconds(limits.keep_alive_s * _UPSTREAM_KEEP_ALIVE),
        requests_max=2 * limits.concurrent_requests_max,
        endpoints="\n".join(
            _envoy_endpoints(front, priority, slots) for priority, slots in enumerate(priorities)
        ),
    )


def _envoy_endpoints(front: Front, priority: int, slots: list[int]) -> str:
    paths = [json.dumps(str(front.sockets[slot])) for slot in slots]
    lines = [f"        - endpoint: {{address: {{pipe: {{path: {path}}}}}}}" for path in paths]
    return "\n".join([f"      - priority: {priority}", "        lb_endpoints:", *lines])


def _seconds(seconds: float) -> str:
    return f"{seconds:g}s"


def _indented(text: str, blanks: int) -> str:
    return "\n".join(" " * blanks + line if line else "" for line in text.splitlines())


# -- systemd --------------------------------------------------------------------------------


def _quoted(word: str) -> str:
    """As systemd.syntax(7) wants a word of a command line."""
    word = word.replace("%", "%%").replace("$", "$$")
    if word and not any(mark in word for mark in " \t\"'\\;"):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
