"""Fixtures of the HTTP tests: servers in this process."""

from tests.fix_http import acme, api, auth_server, server, start_server

__all__ = ["acme", "api", "auth_server", "server", "start_server"]
