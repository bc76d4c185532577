"""A cache of parsed header blocks, keyed by their bytes: keep-alive clients repeat the same ones.

Two headers may differ at each request (an id, a trace) while the rest repeats; they are cut out
before the rest is looked up, which costs a tenth of parsing everything, and keeps such requests
from filling the cache.
"""

from __future__ import annotations

import re

from router.framing import Block, parse_block

BLOCKS_MAX = 8192
BLOCK_BYTES_MAX = 4096

_CHANGING = {name: name + b":" for name in (b"x-request-id", b"traceparent")}
# As strict as `router.framing` is with any line; one that it would read otherwise stays in.
_VALUE = re.compile(rb"[ \t]*([\x21-\x7e]+)[ \t]*")


class Blocks:
    """The cached blocks of one worker."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Block] = {}

    def parse(self, data: bytes, minor: int) -> Block:
        """The header lines `data` parsed; equal bytes give an equal block, so once.

        Raises MalformedRequest.
        """
        block = self._kept.get(data)
        if block is not None and minor:
            return block
        if not minor or len(data) > BLOCK_BYTES_MAX:
            return parse_block(data, minor)
        rest, cut = _cut(data)
        block = self._kept.get(rest) or self._keep(rest)
        if not cut:
            return block
        return _with(block, cut) or parse_block(data)

    def _keep(self, data: bytes) -> Block:
        block = parse_block(data)
        if len(self._kept) >= BLOCKS_MAX:
            # Many at once: each deletion at its start makes a dict's first key slower to find.
            self._kept.clear()
        self._kept[data] = block
        return block


def changing(block: Block) -> bool:
    """Does the block have a field whose value may differ in each request?"""
    return not _CHANGING.keys().isdisjoint(block.fields)


def _cut(data: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The lines without those that may change, and the first of these for each name.

    A name that ends another one before it is not cut out: the whole block is parsed then.
    """
    found: dict[bytes, bytes] = {}
    lower = data.lower()
    for name, line_start in _CHANGING.items():
        start = lower.find(line_start)
        if start < 0 or (start and lower[start - 2 : start] != b"\r\n"):
            continue
        end = data.find(b"\r\n", start)
        value = _VALUE.fullmatch(data, start + len(name) + 1, end)
        if value is not None:
            found[name] = value[1]
            data = data[:start] + data[end + 2 :]
            lower = lower[:start] + lower[end + 2 :]
    return data, found


def _with(block: Block, cut: dict[bytes, bytes]) -> Block | None:
    """The block with these fields added; they affect neither framing nor the connection.

    None when it has one of them already.
    """
    if not cut.keys().isdisjoint(block.fields):
        return None
    text = {name.decode(): value.decode() for name, value in cut.items()}
    return Block(
        fields=block.fields | cut,
        length=block.length,
        expect_continue=block.expect_continue,
        close=block.close,
        text_fields=block.text_fields | text,
        claimed_namespace=block.claimed_namespace,
    )
