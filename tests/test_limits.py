"""fs9.limits: every bound is positive, and they fit each other."""

from __future__ import annotations

import dataclasses

import pytest

from fs9.limits import MIB, Limits


def test_the_contracts_defaults():
    limits = Limits()
    assert limits.json_body_bytes_max == 2 * MIB
    assert limits.write_body_bytes_max == 256 * MIB
    assert limits.read_whole_bytes_max == MIB
    assert (limits.handle_ttl_s, limits.handle_sweep_interval_s) == (300, 60)
    assert (limits.request_timeout_s, limits.concurrent_requests_max) == (30, 1000)
    assert limits.events_max == 100_000


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
def test_no_bound_is_zero_or_less(name: str):
    """The error names the bound."""
    for value in (0, -1):
        with pytest.raises(ValueError, match=name):
            Limits(**{name: value})


def test_relations():
    assert Limits(write_body_bytes_max=1000).fast_body_bytes_max == 1000
    assert Limits(fast_body_bytes_max=1000).fast_body_bytes_max == 1000
    with pytest.raises(ValueError, match="handle_sweep_interval_s"):
        Limits(handle_ttl_s=30)
    assert Limits(handle_ttl_s=30, handle_sweep_interval_s=30).handle_ttl_s == 30
