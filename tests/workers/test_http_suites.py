"""The whole HTTP suite through the workers' protocol finds no difference between the lanes."""

from tests.fix_http import acme, api, auth_server, server
from tests.http.suite_events import *  # noqa: F403
from tests.http.suite_files import *  # noqa: F403
from tests.http.suite_handles import *  # noqa: F403
from tests.http.suite_rules import *  # noqa: F403
from tests.http.suite_transfers import *  # noqa: F403
from tests.workers.fix_node import start_server

__all__ = ["acme", "api", "auth_server", "server", "start_server"]
