"""From the settings to the verifier of one worker, and to the key set that it may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fs9.auth.api_keys import ApiKeys
from fs9.auth.jwks import KeySet, check_place
from fs9.auth.tokens import Keys
from fs9.auth.verifier import Verifier
from fs9.config.errors import ConfigError

if TYPE_CHECKING:
    from fs9.auth.tokens import Key
    from fs9.auth.validator import Validator
    from fs9.clock import Clock
    from fs9.config import Settings
    from fs9.meta.store import Store
    from fs9.threads import BlockingPool


def check_keys(settings: Settings) -> Keys:
    """The secrets of the settings as keys; raises ConfigError when tokens cannot be verified."""
    if settings.jwks is not None:
        try:
            check_place(settings.jwks)
        except ValueError as error:
            raise ConfigError(f"server.auth.jwks: {error}") from None
    found: list[Key] = []
    secrets = [] if settings.jwks is not None and not settings.jwt_secret else [settings.jwt_secret]
    for key, values in (("jwt_secret", secrets), ("previous_secrets", settings.previous_secrets)):
        try:
            found += Keys.of_secrets(values).keys
        except ValueError as error:
            raise ConfigError(f"server.auth.{key}: {error}") from None
    return Keys(tuple(found), grows=settings.jwks is not None)


class Identity:
    """`verifier`, and what keeps its keys up to date (None: they never change)."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        pool: BlockingPool,
        store: Store,
        *,
        remote: Validator | None = None,
    ) -> None:
        """`remote`: a metadata service that decides about all tokens. Raises ConfigError."""
        self._secrets = check_keys(settings)
        self.key_set = (
            None
            if settings.jwks is None
            else KeySet(settings.jwks, clock, pool, self._use_public_keys)
        )
        self.verifier = Verifier(
            self._secrets,
            settings.limits,
            clock,
            issuer=settings.token_issuer,
            audience=settings.token_audience,
            api_keys=ApiKeys(store, clock, store.touch_api_key),
            remote=remote,
            learn_keys=None if self.key_set is None else self.key_set.read_if_due,
        )

    def _use_public_keys(self, keys: tuple[Key, ...]) -> None:
        self.verifier.keys = msgspec.structs.replace(self._secrets, keys=self._secrets.keys + keys)
