"""What the parts of one worker process share: where data is, the bounds, the time, the threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.clock import Clock
    from fs9.limits import Limits
    from fs9.threads import BlockingPool


@dataclass(frozen=True, slots=True)
class Resources:
    """Made once in a process, by `fs9.services`, and passed to whoever needs all of it."""

    data_dir: Path
    limits: Limits
    clock: Clock
    pool: BlockingPool
