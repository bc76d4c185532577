"""The gate when access logs or traces are on: records the caller, and a span for each step."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fs9.http.gate import Gate
from fs9.observe.request import TRAIL

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from fs9.principal import Principal
    from fs9.services import Services
    from fs9.vfs.session import Session


class ObservedGate(Gate):
    __slots__ = ("_tracing",)

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._tracing = services.tracing

    def principal_nowait(
        self, authorization: str | None, tenant: str | None = None
    ) -> Principal | None:
        with self._step("authenticate"):
            principal = super().principal_nowait(authorization, tenant)
        return None if principal is None else self._noted(principal)

    async def principal(self, authorization: str | None, tenant: str | None = None) -> Principal:
        with self._step("authenticate"):
            principal = await super().principal(authorization, tenant)
        return self._noted(principal)

    def _noted(self, principal: Principal) -> Principal:
        trail = TRAIL.get()
        if trail is not None:
            trail.user = principal.user
        return principal

    async def enter(self, principal: Principal) -> Session:
        with self._step("attach"):
            return await super().enter(principal)

    def _step(self, name: str) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if self._tracing is None else self._tracing.step(name)
