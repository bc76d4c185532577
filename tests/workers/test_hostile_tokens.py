"""A sample of the hostile tokens over HTTP: each is a 401, and the worker serves on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.auth.hostile import hostile
from tests.fix_http import SECRET, auth_server, token
from tests.workers.fix_node import start_server

if TYPE_CHECKING:
    from tests.fix_http import Server

__all__ = ["auth_server", "start_server"]

_SAMPLE = 5


async def test_no_hostile_token_comes_through(auth_server: Server) -> None:
    """Neither on a hot route nor on one of the framework, nor in a refresh."""
    corpus = list(hostile(SECRET.encode(), int(time.time()), "default", [b"public"]))
    # Blanks at the ends are not part of a header's value, and no client sends them.
    texts = {text for _, text in corpus if text.isprintable() and text.isascii()}
    found = sorted(text for text in texts if text and text == text.strip())
    expired = {text for kind, text in corpus if kind == "exp"}
    client = auth_server.client(token=None)
    for text in found[::_SAMPLE]:
        headers = {"authorization": f"Bearer {text}"}
        for method, path in (("GET", "stat?path=/"), ("POST", "auth/refresh")):
            if path == "auth/refresh" and text in expired:
                continue  # one that is right but for its age may be refreshed
            answer = await client.request(method, path, headers=headers)
            assert answer.status_code == 401, (answer.text, text[:200])
            assert answer.headers.get("www-authenticate") == "Bearer"
    good = {"authorization": f"Bearer {token('default', 'admin')}"}
    assert (await client.get("stat?path=/", headers=good)).status_code == 200
