"""errno to error: one table, and no host path in a text."""

from __future__ import annotations

import errno

import pytest

from fs9 import errors
from fs9.providers.localerrors import failure


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, errors.QuotaExceeded),
        (errno.EDQUOT, errors.QuotaExceeded),
        (errno.EFBIG, errors.QuotaExceeded),
        (errno.EROFS, errors.PermissionDenied),
        (errno.EACCES, errors.PermissionDenied),
        (errno.EPERM, errors.PermissionDenied),
        (errno.EMFILE, errors.Transient),
        (errno.ENFILE, errors.Transient),
        (errno.EBUSY, errors.Conflict),
        (errno.ESTALE, errors.NotFound),
        (errno.EIO, errors.Internal),
        (errno.EUCLEAN, errors.Internal),
        (None, errors.Internal),
    ],
)
def test_each_errno_has_its_kind(number, kind):
    """One table; the text has the client's path and never the host's."""
    error = failure(OSError(number, "x", "/host/path"), "/client")
    assert type(error) is kind
    assert "/client" in str(error)
    assert "/host" not in str(error)
