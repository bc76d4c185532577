"""Is this worker answering?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.http.exchange import Reply
from fs9.wire.codec import encode
from fs9.wire.messages import HealthReply

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange


async def health(x: Exchange) -> Reply:
    return Reply(200, encode(HealthReply("ok", x.context.services.instance_id)))
