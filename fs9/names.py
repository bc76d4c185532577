"""What a namespace may be called: the one rule, for tokens, tenant prefixes and the meta store."""

from __future__ import annotations

import re

from fs9.errors import InvalidArgument

#: The namespace of callers without a token and without a tenant prefix; it always exists.
DEFAULT_NAMESPACE = "default"
#: Who made what no user made.
SYSTEM_USER = "system"
NAMESPACE_NAME_BYTES_MAX = 64

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_FIRST = re.compile(r"[a-z0-9]")


def is_namespace_name(name: str) -> bool:
    """Is `name` one that a namespace may have?"""
    return _NAME.fullmatch(name) is not None


def check_namespace_name(name: str) -> None:
    """Raise InvalidArgument unless a namespace may be called `name`.

    The error's `detail` is one of three texts, all starting "Namespace name ".
    """
    if is_namespace_name(name):
        return
    if not 1 <= len(name) <= NAMESPACE_NAME_BYTES_MAX:
        text = f"Namespace name must be 1 to {NAMESPACE_NAME_BYTES_MAX} characters long"
    elif not _FIRST.match(name):
        text = "Namespace name must start with a lowercase letter or a digit"
    else:
        text = "Namespace name may contain only lowercase letters, digits, '_' and '-'"
    raise InvalidArgument(text)
