"""fs9.observe.request: a request's id is the client's if that is harmless, else a new one."""

from __future__ import annotations

import pytest

from fs9.observe.request import RequestIds


@pytest.mark.parametrize("given", [b"a", b"3f1c-77", b"~!#$%&'*+-.^_`|", b"x" * 128])
def test_a_sane_id_is_kept(given: bytes) -> None:
    assert RequestIds().of(given) == given


@pytest.mark.parametrize(
    "given",
    [None, b"", b"x" * 129, b"a b", b"a,b", b'"a"', b"a;b", b"<a>", b"a\n", b"caf\xe9", b"\x1b[2J"],
)
def test_another_one_is_replaced(given: bytes | None) -> None:
    ids = RequestIds()
    made = ids.of(given)
    assert made != given
    assert RequestIds().of(made) == made, "what is made is sane"


def test_no_id_is_made_twice() -> None:
    ids, others = RequestIds(), RequestIds()
    made = [source.of(None) for source in (ids, others) for _ in range(1000)]
    assert len(set(made)) == 2000
