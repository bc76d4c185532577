"""From the settings to the verifier of one worker, and to the key set that it may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fs9.auth.api_keys import ApiKeys
from fs9.auth.jwks import KeySet, check_place
from fs9.auth.refresh import LocalRefresher
from fs9.auth.remote import RemoteKeys, RemoteRefresher, RemoteValidator
from fs9.auth.tokens import ClaimRules, Keys
from fs9.auth.verifier import Verifier
from fs9.config.errors import ConfigError
from fs9.config.meta_service import KNOWN_TO_ALL
from fs9.meta.client import MetaClient

if TYPE_CHECKING:
    from fs9.auth.tokens import Key
    from fs9.auth.validator import Refresher, Validator
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
    lifetime_max_s = settings.token_lifetime_max_s
    if lifetime_max_s is not None and settings.token_ttl_s > lifetime_max_s:
        raise ConfigError(
            "server.auth.token_ttl_secs: refreshed tokens would be refused; it may be at most"
            f" server.auth.max_token_lifetime_secs ({lifetime_max_s})"
        )
    found: list[Key] = []
    elsewhere = settings.jwks is not None or bool(settings.meta_endpoints)
    secrets = [] if elsewhere and not settings.jwt_secret else [settings.jwt_secret]
    for key, values in (("jwt_secret", secrets), ("previous_secrets", settings.previous_secrets)):
        if not KNOWN_TO_ALL.isdisjoint(values):
            raise ConfigError(
                f"server.auth.{key}: this is a published example; make one with"
                " `openssl rand -hex 32`"
            )
        try:
            found += Keys.of_secrets(values).keys
        except ValueError as error:
            raise ConfigError(f"server.auth.{key}: {error}") from None
    return Keys(tuple(found), grows=settings.jwks is not None)


class Identity:
    """`verifier` and `refresher`, and what keeps its keys up to date (None: they never change)."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        pool: BlockingPool,
        metadata: Store | MetaClient,
    ) -> None:
        """`metadata`: the store, or the service that decides about all credentials.

        Raises ConfigError.
        """
        self._secrets = check_keys(settings)
        self.key_set = (
            None
            if settings.jwks is None
            else KeySet(settings.jwks, clock, pool, self._use_public_keys)
        )
        remote: Validator | None = None
        if isinstance(metadata, MetaClient):
            remote = RemoteValidator(metadata, settings, clock)
            api_keys: Validator = RemoteKeys(metadata)
        else:
            api_keys = ApiKeys(metadata, clock, metadata.touch_api_key)
        self.verifier = Verifier(
            self._secrets,
            settings.limits,
            clock,
            ClaimRules.of(settings),
            api_keys=api_keys,
            remote=remote,
            learn_keys=None if self.key_set is None else self.key_set.read_if_due,
        )
        self.refresher: Refresher = (
            RemoteRefresher(metadata, self.verifier, settings, clock)
            if isinstance(metadata, MetaClient)
            else LocalRefresher(self.verifier, metadata, settings, clock)
        )

    def _use_public_keys(self, keys: tuple[Key, ...]) -> None:
        self.verifier.keys = msgspec.structs.replace(self._secrets, keys=self._secrets.keys + keys)
