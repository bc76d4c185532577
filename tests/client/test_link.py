"""Requests over connections that break, servers that refuse, answers that make no sense."""

from __future__ import annotations

import socket

import pytest

from fs9.client import (
    AsyncClient,
    Client,
    ConnectionLost,
    ServerUnreachable,
    TruncatedBody,
    UnexpectedAnswer,
)
from fs9.errors import (
    BackendUnavailable,
    Fs9Error,
    InvalidArgument,
    InvalidHandle,
    NotDirectory,
    NotFound,
    Overloaded,
    Transient,
)
from fs9.resilience.backoff import NEVER, BackoffPolicy
from tests.client.fake_server import CUT, QUICK, FakeServer, Reply, answer, info, problem, serving


def stat(*replies: Reply, retries: BackoffPolicy = QUICK) -> tuple[FakeServer, int]:
    """(the server, the size that stat found) with these replies."""
    with FakeServer(list(replies)) as server, Client(server.url, retries=retries) as client:
        return server, client.stat("/f").size


def test_a_read_is_repeated_after_a_lost_connection() -> None:
    server, size = stat(CUT, CUT, answer(body=info(size=7)))
    assert (len(server.seen), size) == (3, 7)


def test_a_read_is_repeated_after_a_body_that_is_cut() -> None:
    body = info(size=7)
    server, size = stat(answer(body=body[:9], length=len(body), cut=True), answer(body=body))
    assert (len(server.seen), size) == (2, 7)


def test_attempts_end() -> None:
    """After the last attempt the error says that the connection was lost."""
    with FakeServer([CUT]) as server, Client(server.url, retries=QUICK) as client:
        with pytest.raises(ConnectionLost):
            client.stat("/f")
        assert len(server.seen) == 4


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("remove", ("/f",)),
        ("rename", ("/f", "/g")),
        ("mkdir", ("/d",)),
        ("write", ("handle that may append", 0, b"data")),
    ],
)
def test_a_change_is_not_repeated_when_it_may_have_been_done(
    method: str, arguments: tuple[object, ...]
) -> None:
    with serving(CUT) as (server, client):
        with pytest.raises(ConnectionLost):
            getattr(client, method)(*arguments)
        assert len(server.seen) == 1


@pytest.mark.parametrize("kind", ["Overloaded", "OwnerUnavailable", "TooManyRequests"])
def test_a_change_is_repeated_when_it_surely_was_not_done(kind: str) -> None:
    busy = problem(503, kind, retry_after="0")
    with FakeServer([busy, busy, answer(204)]) as server, Client(server.url, retries=QUICK) as cl:
        cl.remove("/f")
        assert [seen.method for seen in server.seen] == ["DELETE"] * 3


def test_a_change_is_not_repeated_after_a_failure_behind_the_server() -> None:
    busy = problem(503, "Transient", retry_after="0")
    with FakeServer([busy]) as server, Client(server.url, retries=QUICK) as client:
        with pytest.raises(Transient):
            client.remove("/f")
        assert len(server.seen) == 1


def test_retry_after_beyond_the_budget_gives_up_at_once() -> None:
    with FakeServer([problem(503, "Overloaded", retry_after="3600")]) as server:
        with Client(server.url, retries=QUICK) as client, pytest.raises(Overloaded):
            client.stat("/f")
        assert len(server.seen) == 1


def test_never_retries_when_told_so() -> None:
    with FakeServer([CUT]) as server, Client(server.url, retries=NEVER) as client:
        with pytest.raises(ConnectionLost):
            client.stat("/f")
        assert len(server.seen) == 1


def test_a_closed_idle_connection_is_no_error() -> None:
    """The server closes a connection after the answer, without saying so: nobody notices."""
    reply = answer(body=info(size=1))
    reply.cut = True
    with FakeServer([reply]) as server, Client(server.url, retries=QUICK) as client:
        assert [client.stat("/f").size for _ in range(3)] == [1, 1, 1]


def test_connections_are_used_again() -> None:
    with FakeServer([answer(body=info())]) as server, Client(server.url) as client:
        for _ in range(5):
            client.stat("/f")
        assert {seen.connection for seen in server.seen} == {1}


def test_nobody_listens() -> None:
    """The error says what to do, and comes soon."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with Client(url) as client, pytest.raises(ServerUnreachable) as caught:
        client.stat("/f")
    text = f"cannot reach {url}: is the server running? try `fs9 serve`"
    assert str(caught.value).startswith(text)
    assert isinstance(caught.value, BackendUnavailable)


def test_close_after_a_lost_close_is_done() -> None:
    """The handle is gone because the lost attempt has closed it."""
    gone = problem(400, "InvalidHandle", "invalid handle: 7")
    with FakeServer([CUT, gone]) as server, Client(server.url, retries=QUICK) as client:
        client.close("7")
        assert len(server.seen) == 2


def test_close_of_an_unknown_handle_is_an_error() -> None:
    gone = problem(400, "InvalidHandle", "invalid handle: 7")
    with serving(gone) as (_, client), pytest.raises(InvalidHandle):
        client.close("7")


def test_a_synced_close_is_not_taken_for_granted() -> None:
    gone = problem(400, "InvalidHandle", "invalid handle: 7")
    with serving(CUT, gone) as (_, client), pytest.raises(InvalidHandle):
        client.close("7", sync=True)


def test_errors_come_from_the_kind_not_from_the_text() -> None:
    """The text says one thing, the kind another: the kind counts."""
    with (
        serving(problem(400, "NotDirectory", "is a directory: /f")) as (_, client),
        pytest.raises(NotDirectory),
    ):
        client.stat("/f")


def test_errors_without_a_kind_come_from_the_status() -> None:
    with serving(answer(404, b"")) as (_, client), pytest.raises(NotFound):
        client.stat("/f")


def test_an_answer_that_is_no_json() -> None:
    """Something else than fs9 listens there."""
    with (
        serving(answer(200, b"<html>hello</html>")) as (_, client),
        pytest.raises(UnexpectedAnswer, match="is this an fs9 server"),
    ):
        client.stat("/f")


def test_redirects_are_not_followed() -> None:
    """The token would go elsewhere with them."""
    reply = answer(302, b"", location="http://elsewhere.invalid/")
    with serving(reply) as (_, client), pytest.raises(InvalidArgument, match="elsewhere"):
        client.stat("/f")


def test_a_truncated_answer_is_an_error_in_the_end() -> None:
    short = answer(body=b"[]", length=5, cut=True)
    with serving(short, retries=NEVER) as (_, client), pytest.raises(TruncatedBody):
        client.stat("/f")


def test_token_and_tenant_are_sent() -> None:
    with FakeServer([answer(body=info())]) as server:
        with Client(server.url, "tok", namespace="a b") as client:
            client.stat("/x y+z")
        seen = server.seen[0]
    assert seen.headers["authorization"] == "Bearer tok"
    assert seen.target == "/a%20b/api/v1/stat?path=%2Fx+y%2Bz"


def test_a_path_that_is_no_unicode_is_refused_here() -> None:
    with FakeServer([answer(body=info())]) as server, Client(server.url) as client:
        with pytest.raises(InvalidArgument):
            client.stat("/\udcff")
        assert server.seen == []


@pytest.mark.parametrize("url", ["localhost:9999", "ftp://x", "http://", "http://h/?q=1"])
def test_urls_that_cannot_be(url: str) -> None:
    with pytest.raises(InvalidArgument):
        Client(url)


def test_the_token_does_not_show() -> None:
    """Neither a repr nor an error text has the token."""
    client = Client("http://127.0.0.1:1", "very-secret")
    assert "very-secret" not in repr(client.link._settings)
    client.disconnect()


async def test_the_asynchronous_client_retries_alike() -> None:
    with FakeServer([CUT, answer(body=info(size=3))]) as server:
        async with AsyncClient(server.url, retries=QUICK) as client:
            assert (await client.stat("/f")).size == 3
        assert len(server.seen) == 2


async def test_the_asynchronous_client_reports_alike() -> None:
    with FakeServer([problem(404, "NotFound", "not found: /f")]) as server:
        async with AsyncClient(server.url, retries=QUICK) as client:
            with pytest.raises(Fs9Error, match="not found: /f"):
                await client.stat("/f")
