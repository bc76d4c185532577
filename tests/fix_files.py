"""A test process may have more files open than the usual 1,024: a server in it keeps the
namespaces of many tests open, and some tests open a thousand sockets at once."""

from __future__ import annotations

import resource

import pytest

#: Not all that the system allows: the servers that tests start have to see to that themselves.
_FILES_MAX = 8192


@pytest.fixture(scope="session", autouse=True)
def files_for_all() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, _FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
