"""Changes of the metadata as messages of the control bus, and back.

To the router they are bytes, whose meaning it does not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fs9.meta import announce
from fs9.meta.models import Revocation
from router import messages

if TYPE_CHECKING:
    from fs9.meta.announce import Change
    from router.messages import Told

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[Revocation, ...]).decode


def to_message(change: Change) -> Told:
    if isinstance(change, announce.NamespaceChanged):
        return messages.NamespaceChanged(change.name)
    return messages.Revoked(_encode(change.revocations))


def from_message(message: Told) -> Change:
    """Raises msgspec.DecodeError for what another version has packed."""
    if isinstance(message, messages.NamespaceChanged):
        return announce.NamespaceChanged(message.name)
    return announce.Revoked(_decode(message.packed))
