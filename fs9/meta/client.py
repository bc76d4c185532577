"""The metadata over HTTP: what a file server needs, asked of a metadata service.

    MetaClient.namespace(…) ── Wire.call ──> endpoint 1 ── breaker, deadline ──> the service
                                   └─ failed: next endpoint, after a moment ─┘

How a call is tried is in `fs9.meta.calls`. A service may have no more than the contract's routes:
what it lacks is logged once, and done without where that is safe; nothing is ever allowed because
an answer is missing.

Belongs to one event loop. Errors: BackendUnavailable when no endpoint answers in time,
CircuitBreakerOpen when all of them have failed recently.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

from fs9.errors import (
    AlreadyExists,
    BackendUnavailable,
    Conflict,
    Forbidden,
    Fs9Error,
    InvalidArgument,
    NotFound,
    NotSupported,
    Unauthenticated,
)
from fs9.meta import wire
from fs9.meta.calls import SUCCESSES, Wire, decoded, garbage
from fs9.meta.models import Changes
from fs9.meta.wire import API
from fs9.names import DEFAULT_NAMESPACE
from fs9.quota import NO_BOUNDS
from fs9.types import MountSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fs9.meta.models import (
        ApiKeyRecord,
        AuditRecord,
        MountRecord,
        NamespaceQuota,
        NamespaceRecord,
        NamespaceStatus,
        Revocation,
        UserRecord,
    )
    from fs9.observe.audit import EventQuery

log = logging.getLogger(__name__)

_PAGE = 500
#: Before a service that gave no answer is asked again for what is due.
_AGAIN_S = 1.0


class MetaClient:
    """A `fs9.meta.store.Metadata`, and what file servers ask about credentials."""

    def __init__(self, calls: Wire) -> None:
        self.calls = calls
        self._missing: set[str] = set()

    async def aclose(self) -> None:
        await self.calls.aclose()

    async def ping(self) -> None:
        status, body = await self.calls.call("GET", f"{API}/ping")
        if status == 404:
            status, body = await self.calls.call("GET", "/health")
        self._ok(status, body)

    # -- credentials ------------------------------------------------------------------------

    async def validate(self, token: str) -> wire.VerdictReply:
        """The service's verdict on a token; any other answer counts as an outage."""
        status, body = await self.calls.call(
            "POST", f"{API}/tokens/validate", body=wire.TokenBody(token), into=wire.VerdictReply
        )
        if status != 200:
            raise BackendUnavailable(f"the metadata service answered {status} about a token")
        return decoded(body, wire.VerdictReply)

    async def validate_key(self, key: str) -> wire.VerdictReply:
        """The same about an API key; with a service that has no keys none is valid."""
        status, body = await self.calls.call(
            "POST",
            f"{API}/apikeys/validate",
            body=wire.KeyValidateBody(key),
            into=wire.VerdictReply,
        )
        if status in {404, 405}:
            self._lacks("API keys", "none is accepted")
            return wire.VerdictReply(False, error="Invalid API key")
        if status != 200:
            raise BackendUnavailable(f"the metadata service answered {status} about a key")
        return decoded(body, wire.VerdictReply)

    async def refresh(self, token: str, ttl_s: int) -> wire.TokenReply:
        """Raises Unauthenticated when the service refuses, in its words."""
        status, body = await self.calls.call(
            "POST",
            f"{API}/tokens/refresh",
            body=wire.RefreshBody(token, ttl_s),
            repeat=False,
            into=wire.TokenReply,
        )
        if 400 <= status < 500 and status not in {404, 405, 408, 429}:
            raise Unauthenticated(wire.words_of(body) or "the metadata service refuses it")
        if status != 200:
            raise BackendUnavailable(f"the metadata service answered {status} about a refresh")
        return decoded(body, wire.TokenReply)

    async def api_key(self, key_digest: str) -> tuple[ApiKeyRecord, UserRecord]:
        """As `Metadata.api_key`."""
        path = f"{API}/apikeys/by-digest/{_name(key_digest)}"
        status, body = await self.calls.call("GET", path, into=wire.KeyRecordReply)
        reply = decoded(self._ok(status, body), wire.KeyRecordReply)
        return reply.key, reply.owner

    # -- namespaces -------------------------------------------------------------------------

    async def create_namespace(
        self,
        name: str,
        by: str,
        mounts: Sequence[MountSpec],
        *,
        quota: NamespaceQuota | None = None,
        description: str = "",
    ) -> NamespaceRecord:
        """As `Metadata.create_namespace`; mounts one by one where the service takes no list."""
        given = wire.NamespaceBody(name, description, list(mounts), quota or NO_BOUNDS, by)
        path = f"{API}/namespaces"
        status, body = await self.calls.call(
            "POST", path, body=given, repeat=False, into=wire.NamespaceReply
        )
        if status in {404, 405}:
            path = f"{API}/admin/namespaces"
            status, body = await self.calls.call(
                "POST", path, body=given, repeat=False, into=wire.NamespaceReply
            )
            if status == 400 and "exists" in wire.words_of(body):
                status = 409
        if status == 409:
            raise AlreadyExists(f"Namespace '{name}' already exists")
        reply = decoded(self._ok(status, body), wire.NamespaceReply)
        if reply.mounts is None:
            for spec in mounts:
                await self.add_mount(name, spec, by)
            reply.mounts = list(mounts)
        return _namespace(reply, reply.mounts)

    async def namespace(self, name: str) -> NamespaceRecord:
        """As `Metadata.namespace`."""
        status, body = await self.calls.call(
            "GET", f"{API}/admin/namespaces/{_name(name)}", into=wire.NamespaceReply
        )
        if status == 404:  # unknown, or a service without these routes
            status, body = await self.calls.call(
                "GET", f"{API}/namespaces/{_name(name)}", into=wire.NamespaceReply
            )
        if status == 404:
            raise NotFound(f"Namespace '{name}' not found")
        reply = decoded(self._ok(status, body), wire.NamespaceReply)
        if reply.name != name:
            raise BackendUnavailable(f"asked for namespace {name}, got {reply.name!r}")
        return _namespace(reply, await self._mounts(reply))

    async def _mounts(self, reply: wire.NamespaceReply) -> list[MountSpec]:
        if reply.mounts is not None:
            return reply.mounts
        path = f"{API}/namespaces/{_name(reply.name)}/mounts"
        status, body = await self.calls.call("GET", path, into=list[wire.MountReply])
        if status == 404:
            self._lacks("mounts", "namespaces have none")
            return []
        found = decoded(self._ok(status, body), list[wire.MountReply])
        return [MountSpec(each.path, each.provider, each.config or {}) for each in found]

    async def namespaces(
        self, *, after: str = "", limit: int | None = None
    ) -> list[NamespaceRecord]:
        """As `Metadata.namespaces`."""
        replies = await self._namespace_replies(after, limit)
        replies = sorted((each for each in replies if each.name > after), key=lambda r: r.name)
        return [_namespace(reply, await self._mounts(reply)) for reply in replies[:limit]]

    async def _namespace_replies(self, after: str, limit: int | None) -> list[wire.NamespaceReply]:
        found: list[wire.NamespaceReply] = []
        while True:
            wanted = _PAGE if limit is None else min(_PAGE, limit - len(found))
            page = await self._namespace_page(after, wanted)
            found += page
            # A service without pages gives all of them at once.
            if len(page) != wanted or (limit is not None and len(found) >= limit):
                return found
            after = page[-1].name

    async def _namespace_page(self, after: str, limit: int) -> list[wire.NamespaceReply]:
        query = {"after": after, "limit": limit}
        status, body = await self.calls.call(
            "GET", f"{API}/namespaces", query=query, into=list[wire.NamespaceReply]
        )
        if status == 404:
            status, body = await self.calls.call(
                "GET", f"{API}/admin/namespaces", query=query, into=list[wire.NamespaceReply]
            )
        return decoded(self._ok(status, body), list[wire.NamespaceReply])

    async def set_status(self, name: str, status: NamespaceStatus, by: str) -> NamespaceRecord:
        """As `Metadata.set_status`."""
        path = f"{API}/namespaces/{_name(name)}/status"
        return await self._put(path, wire.StatusBody(status, by), "status")

    async def set_quota(self, name: str, quota: NamespaceQuota, by: str) -> NamespaceRecord:
        """As `Metadata.set_quota`."""
        path = f"{API}/namespaces/{_name(name)}/quota"
        return await self._put(path, wire.QuotaBody(quota, by), "quotas")

    async def _put(self, path: str, given: object, what: str) -> NamespaceRecord:
        status, body = await self.calls.call("PUT", path, body=given, into=wire.NamespaceReply)
        reply = decoded(self._needed(status, body, what), wire.NamespaceReply)
        return _namespace(reply, reply.mounts or [])

    async def deleted_namespaces(self, before_s: int) -> list[NamespaceRecord]:
        """As `Metadata.deleted_namespaces`; none when the service does not tell."""
        status, body = await self.calls.call(
            "GET",
            f"{API}/deleted-namespaces",
            query={"before": before_s},
            into=list[wire.NamespaceReply],
        )
        if status == 404:
            self._lacks("deleted namespaces", "their data is not removed")
            return []
        replies = decoded(self._ok(status, body), list[wire.NamespaceReply])
        return [_namespace(reply, reply.mounts or []) for reply in replies]

    async def forget_namespace(self, namespace_id: str) -> None:
        """As `Metadata.forget_namespace`."""
        path = f"{API}/deleted-namespaces/{_name(namespace_id)}"
        status, body = await self.calls.call("DELETE", path)
        self._needed(status, body, "deleted namespaces")

    async def add_mount(self, name: str, spec: MountSpec, by: str) -> MountRecord:
        """As `Metadata.add_mount`."""
        given = wire.MountBody(spec.path, spec.provider, spec.config, by)
        path = f"{API}/namespaces/{_name(name)}/mounts"
        status, body = await self.calls.call(
            "POST", path, body=given, repeat=False, into=wire.MountReply
        )
        reply = decoded(self._ok(status, body), wire.MountReply)
        try:
            return wire.mount_record(reply)
        except ValueError as error:
            raise garbage(error) from None

    async def mount_default(self, mounts: Sequence[MountSpec], by: str) -> None:
        """Give the namespace `default` these mounts, if it has none: a service creates it empty.

        Mounts that exist stay. Another file server may be doing the same now.
        """
        if not (await self.namespace(DEFAULT_NAMESPACE)).mounts:
            for spec in mounts:
                with contextlib.suppress(AlreadyExists):
                    await self.add_mount(DEFAULT_NAMESPACE, spec, by)

    async def mount_untouched_default(self, mounts: Sequence[MountSpec], by: str) -> None:
        """As `mount_default`, once the service answers, unless `default` was changed before."""
        while True:
            try:
                if (await self.namespace(DEFAULT_NAMESPACE)).updated_at_s is None:
                    await self.mount_default(mounts, by)
            except Fs9Error as error:
                if not error.retryable:
                    log.warning("`mounts` were not given to the metadata service: %s", error)
                    return
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def remove_mount(self, name: str, path: str, by: str) -> None:
        """As `Metadata.remove_mount`."""
        url = f"{API}/namespaces/{_name(name)}/mounts"
        if path == "/":
            status, body = await self.calls.call("DELETE", url, query={"path": path, "by": by})
        else:
            status, body = await self.calls.call("DELETE", url + quote(path), query={"by": by})
        self._ok(status, body)

    # -- revocations and changes ------------------------------------------------------------

    async def revoke(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        """As `Metadata.revoke`; raises NotSupported where the service keeps none."""
        given = wire.RevocationsBody(list(revocations))
        status, body = await self.calls.call(
            "POST", f"{API}/revocations", body=given, into=wire.RevocationsReply
        )
        said = self._needed(status, body, "revocations")
        return decoded(said, wire.RevocationsReply).revocations

    async def changes_since(self, change_id: int, limit: int = 10_000) -> Changes:
        """As `Metadata.changes_since`; without a feed nothing ever changes."""
        query = {"after": change_id, "limit": limit}
        status, body = await self.calls.call("GET", f"{API}/changes", query=query, into=Changes)
        if status == 404:
            self._lacks(
                "a feed of changes",
                "revocations and suspensions count when what is remembered of a token or"
                " namespace expires",
            )
            return Changes(change_id)
        return decoded(self._ok(status, body), Changes)

    async def last_change(self) -> int:
        """As `Metadata.last_change`."""
        status, body = await self.calls.call(
            "GET", f"{API}/changes/last", into=wire.LastChangeReply
        )
        if status == 404:
            return 0
        return decoded(self._ok(status, body), wire.LastChangeReply).last_id

    async def wait_change(self, change_id: int, wait_s: float) -> bool:
        """As `Metadata.wait_change`; raises NotSupported where the service cannot wait."""
        status, body = await self.calls.hold(
            f"{API}/changes/last",
            {"after": change_id, "wait": int(wait_s)},
            wait_s,
            wire.LastChangeReply,
        )
        if status == 404:
            self._lacks("notifications of changes", "it is asked for them on a timer alone")
            raise NotSupported("notifications of changes, by this metadata service")
        reply = decoded(self._ok(status, body), wire.LastChangeReply)
        if reply.last_id <= change_id and not reply.waited:
            raise NotSupported("waiting for changes, by this metadata service, for now")
        return reply.last_id > change_id

    # -- audit ------------------------------------------------------------------------------

    async def append_events(self, name: str, events: Sequence[AuditRecord]) -> None:
        """As `Metadata.append_events`."""
        path = f"{API}/namespaces/{_name(name)}/events"
        given = wire.EventsBody(list(events))
        status, body = await self.calls.call("POST", path, body=given, repeat=False)
        self._needed(status, body, "events", name)

    async def events(self, name: str, wanted: EventQuery) -> list[AuditRecord]:
        """As `Metadata.events`."""
        query = {
            "limit": wanted.limit,
            "offset": wanted.offset,
            "path": wanted.path or None,
            "type": wanted.event_type,
            "since_ns": wanted.since_ns,
            "until_ns": wanted.until_ns,
            "after": wanted.after,
        }
        url = f"{API}/namespaces/{_name(name)}/events"
        status, body = await self.calls.call("GET", url, query=query, into=wire.EventsReply)
        return decoded(self._needed(status, body, "events", name), wire.EventsReply).events

    async def last_event(self, name: str) -> AuditRecord | None:
        """As `Metadata.last_event`."""
        url = f"{API}/namespaces/{_name(name)}/events/last"
        status, body = await self.calls.call("GET", url, into=wire.LastEventReply)
        return decoded(self._needed(status, body, "events", name), wire.LastEventReply).event

    async def trim_events(self, name: str, before_ns: int, keep_max: int) -> int:
        """As `Metadata.trim_events`."""
        url = f"{API}/namespaces/{_name(name)}/events/trim"
        given = wire.TrimBody(before_ns, keep_max)
        status, body = await self.calls.call("POST", url, body=given, into=wire.TrimmedReply)
        return decoded(self._needed(status, body, "events", name), wire.TrimmedReply).trimmed

    # -- answers ----------------------------------------------------------------------------

    def _needed(self, status: int, body: bytes, what: str, name: str = "") -> bytes:
        """The body of a route beyond the contract. Raises NotSupported without such a route."""
        ours = wire.error_of(status, body)
        if status in {404, 405} and not isinstance(ours, NotFound):
            self._lacks(what, "what needs them is refused")
            raise NotSupported(f"{what}, by this metadata service")
        return self._ok(status, body)

    def _ok(self, status: int, body: bytes) -> bytes:
        if status in SUCCESSES:
            return body
        ours = wire.error_of(status, body)
        if ours is not None and not isinstance(ours, Unauthenticated | Forbidden):
            raise ours
        said = wire.words_of(body)
        kind = {404: NotFound, 409: Conflict, 400: InvalidArgument, 422: InvalidArgument}
        if status == 409 and "exists" in said:
            raise AlreadyExists(said)
        if status in kind:
            raise kind[status](said or f"the metadata service answered {status}")
        raise BackendUnavailable(f"the metadata service answered {status}: {said}")

    def _lacks(self, what: str, so: str) -> None:
        if what not in self._missing:
            self._missing.add(what)
            log.warning("the metadata service has no %s: %s", what, so)


def _name(name: str) -> str:
    """One segment of a path; dots alone would be taken for steps in the tree."""
    if name in {"", ".", ".."}:
        raise NotFound(f"Namespace '{name}' not found")
    return quote(name, safe="")


def _namespace(reply: wire.NamespaceReply, mounts: list[MountSpec]) -> NamespaceRecord:
    try:
        return wire.namespace_record(reply, mounts)
    except (ValueError, OverflowError) as error:
        raise garbage(error) from None
