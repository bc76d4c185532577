"""The HTTP suites on the Falcon application, in this process."""

from tests.http.suite_files import *  # noqa: F403
