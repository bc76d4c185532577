"""Counts the messages that readers missed because they were too slow, once for each reader."""

from __future__ import annotations

from collections import defaultdict


class Losses:
    """The counts of one worker, over all its mounts, by provider."""

    def __init__(self) -> None:
        self._lost: defaultdict[str, int] = defaultdict(int)

    def count(self, provider: str, messages: int) -> None:
        self._lost[provider] += messages

    def of(self, provider: str) -> int:
        return self._lost[provider]
