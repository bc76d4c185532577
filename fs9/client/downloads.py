"""The download operation: which bytes are asked for, and which bytes an answer carries.

A server may ignore a range and send everything (RFC 9110, section 14.2); then `skip` and
`length` say what of the body was asked for, so that no caller ever gets other bytes.
"""

from __future__ import annotations

import re

import msgspec

from fs9.client.failures import UnexpectedAnswer
from fs9.client.ops import Answer, Operation, condition_headers, condition_of, request_of
from fs9.errors import InvalidArgument
from fs9.wire.conditions import parse_http_date
from fs9.wire.ranges import format_range

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Wanted(msgspec.Struct, frozen=True):
    """What to download: `length` bytes from `offset`, to the end when None.

    A negative offset counts from the end. `if_range` asks for the range only while the file
    still has that etag, and for the whole file otherwise.
    """

    path: str
    offset: int = 0
    length: int | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_range: str | None = None

    def headers(self) -> dict[str, str]:
        headers = condition_headers(condition_of(self.if_match, self.if_none_match))
        value = self._range()
        if value:
            headers["range"] = value
            if self.if_range is not None:
                headers["if-range"] = f'"{self.if_range}"'
        return headers

    def _range(self) -> str | None:
        if self.length is not None and self.length < 1:
            raise InvalidArgument("a range has at least one byte")
        if self.offset < 0:
            if self.length is not None and self.length != -self.offset:
                raise InvalidArgument("a range counted from the end goes to the end")
            return f"bytes={self.offset}"
        if not self.offset and self.length is None:
            return None
        return format_range(self.offset, self.length)


class Head(msgspec.Struct, frozen=True):
    """What an answer promises: `length` bytes from `offset` of a file of `size` bytes.

    `skip` bytes of the body come before them, and when `cut` others after them. `length` and
    `size` are None when the server does not know (a synthetic file). `etag` is "" and `mtime_s`
    None when not told.
    `not_modified`: the file still has the etag of `if_none_match`; there are no bytes.
    """

    offset: int
    length: int | None
    size: int | None
    skip: int = 0
    etag: str = ""
    mtime_s: int | None = None
    not_modified: bool = False
    cut: bool = False

    @property
    def is_resumable(self) -> bool:
        """Can a broken body be continued? Only with a strong etag and a known length."""
        return bool(self.etag) and not self.etag.startswith("W/") and self.length is not None


def download(wanted: Wanted) -> Operation[Head]:
    """Open the bytes of a file; the driver's caller reads them from the answer."""
    request = request_of("download", query={"path": wanted.path}, headers=wanted.headers())
    request.streams = True
    answer = yield request
    return _head(wanted, answer)


def _head(wanted: Wanted, answer: Answer) -> Head:
    etag = answer.headers.get("etag", "").strip('"')
    mtime_s = parse_http_date(answer.headers.get("last-modified"))
    if answer.status == 304:
        return Head(0, 0, None, etag=etag, mtime_s=mtime_s, not_modified=True)
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise UnexpectedAnswer("a proxy has encoded the bytes of the file")
    if answer.status == 206:
        offset, length, size = _content_range(answer.headers.get("content-range", ""))
        _check_range(wanted, offset, length)
        return Head(offset, length, size, etag=etag, mtime_s=mtime_s)
    announced = answer.headers.get("content-length", "")
    size = int(announced) if announced.isdigit() else None
    if wanted.if_range is not None or (not wanted.offset and wanted.length is None):
        return Head(0, size, size, etag=etag, mtime_s=mtime_s)
    return _cut(wanted, size, etag, mtime_s)


def _cut(wanted: Wanted, size: int | None, etag: str, mtime_s: int | None) -> Head:
    """The asked-for part of a whole file."""
    if size is None:
        raise UnexpectedAnswer("the server ignored the range and told no length")
    offset = max(size + wanted.offset, 0) if wanted.offset < 0 else min(wanted.offset, size)
    end = size if wanted.length is None else min(size, offset + wanted.length)
    return Head(offset, end - offset, size, skip=offset, etag=etag, mtime_s=mtime_s, cut=True)


def _content_range(value: str) -> tuple[int, int, int | None]:
    found = _CONTENT_RANGE.fullmatch(value)
    if not found or int(found[2]) < int(found[1]):
        raise UnexpectedAnswer(f"Content-Range {value!r} cannot be read")
    size = None if found[3] == "*" else int(found[3])
    return int(found[1]), int(found[2]) - int(found[1]) + 1, size


def _check_range(wanted: Wanted, offset: int, length: int) -> None:
    if wanted.offset >= 0 and offset != wanted.offset:
        raise UnexpectedAnswer(f"bytes from {offset} came, {wanted.offset} were asked for")
    if wanted.length is not None and length > wanted.length:
        raise UnexpectedAnswer(f"{length} bytes came, {wanted.length} were asked for")
