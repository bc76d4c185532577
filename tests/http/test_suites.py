"""The HTTP suites on the Falcon application, in this process."""

from tests.http.suite_events import *  # noqa: F403
from tests.http.suite_files import *  # noqa: F403
from tests.http.suite_handles import *  # noqa: F403
from tests.http.suite_rules import *  # noqa: F403
from tests.http.suite_transfers import *  # noqa: F403
