"""Operations as generators, driven by hand: what they ask, and what they make of answers."""

from __future__ import annotations

import msgspec
import pytest

from fs9.client import ops
from fs9.client.failures import UnexpectedAnswer
from fs9.client.ops import Answer, Operation, Request
from fs9.client.policy import Repeat
from fs9.errors import AlreadyExists, NotFound
from fs9.types import MKDIR, READ, Condition, OpenFlags, StatChanges
from tests.client.fake_server import info

OPENED = b'{"handle_id":"7","metadata":%s}'


def drive(
    operation: Operation[object], *answers: Answer | Exception
) -> tuple[list[Request], object]:
    """(the requests, the value) of an operation that gets these answers."""
    requests = [next(operation)]
    for answer in answers:
        try:
            if isinstance(answer, Exception):
                requests.append(operation.throw(answer))
            else:
                requests.append(operation.send(answer))
        except StopIteration as done:
            return requests, done.value
    raise AssertionError("the operation wants more answers")


def ok(body: bytes = b"", status: int = 200) -> Answer:
    return Answer(status, {}, body)


def test_mkdir_opens_and_closes() -> None:
    requests, made = drive(ops.mkdir("/d"), ok(OPENED % info("/d")), ok(status=204))
    assert [request.path for request in requests] == ["/open", "/close"]
    assert made is True


def test_mkdir_takes_an_existing_directory_only_when_told() -> None:
    directory = ok(info("/d", file_type="directory"))
    assert drive(ops.mkdir("/d", exist_ok=True), AlreadyExists("/d"), directory)[1] is False
    with pytest.raises(AlreadyExists):
        drive(ops.mkdir("/d"), AlreadyExists("/d"))
    with pytest.raises(AlreadyExists):
        drive(ops.mkdir("/d", exist_ok=True), AlreadyExists("/d"), ok(info("/d")))


def test_makedirs_stops_at_the_root() -> None:
    with pytest.raises(NotFound):
        drive(ops.makedirs("/d"), NotFound("/"))


def test_wstat_sends_only_what_changes_in_whole_seconds() -> None:
    operation = ops.wstat("/f", StatChanges(mtime_ns=5_900_000_000, size=0))
    request = next(operation)
    assert msgspec.json.decode(request.body or b"") == {
        "path": "/f",
        "changes": {"size": 0, "mtime": 5},
    }


@pytest.mark.parametrize(
    ("flags", "condition", "repeat"),
    [
        (READ, Condition(), Repeat.REPEATABLE),
        (OpenFlags(write=True), ops.ALWAYS, Repeat.REPEATABLE),
        (OpenFlags(write=True, create=True), ops.ALWAYS, Repeat.ONCE),
        (OpenFlags(write=True, truncate=True), ops.ALWAYS, Repeat.ONCE),
        (MKDIR, ops.ALWAYS, Repeat.ONCE),
        (READ, Condition(if_match=("a",)), Repeat.REPEATABLE),
    ],
)
def test_which_opens_may_be_repeated(
    flags: OpenFlags, condition: Condition, repeat: Repeat
) -> None:
    assert next(ops.open_handle("/f", flags, condition)).repeat is repeat


def test_which_writes_may_be_repeated() -> None:
    """At an offset: yes. On a handle that appends, or may: no."""
    opened = ops.Handle("7", ops.decoded(ops.codec.decode_info, info()), OpenFlags(write=True))
    appending = msgspec.structs.replace(opened, flags=OpenFlags(write=True, append=True))
    assert next(ops.write(opened, 0, b"x")).repeat is Repeat.REPEATABLE
    assert next(ops.write(appending, 0, b"x")).repeat is Repeat.ONCE
    assert next(ops.write("7", 0, b"x")).repeat is Repeat.ONCE


def test_append_closes_its_handle_when_the_write_fails() -> None:
    operation = ops.append("/f", b"x", create=True)
    next(operation)
    operation.send(ok(OPENED % info("/f")))
    closing = operation.throw(NotFound("/f"))
    assert closing.path == "/close"
    with pytest.raises(NotFound, match="/f"):
        operation.throw(NotFound("the handle, too"))


def test_ensure_symlink_replaces_another_link() -> None:
    there = ok(info("/l", file_type="symlink", symlink_target="old"))
    done = ok(status=204)
    requests, _ = drive(ops.ensure_symlink("/l", "new"), AlreadyExists("/l"), there, done, done)
    assert [request.path for request in requests] == ["/wstat", "/stat", "/remove", "/wstat"]


def test_ensure_symlink_keeps_the_same_link() -> None:
    there = ok(info("/l", file_type="symlink", symlink_target="new"))
    requests, _ = drive(ops.ensure_symlink("/l", "new"), AlreadyExists("/l"), there)
    assert len(requests) == 2


def test_ensure_directory_makes_it_writable() -> None:
    there = ops.decoded(ops.codec.decode_info, info("/d", file_type="directory", mode=0o555))
    requests, made = drive(ops.ensure_directory("/d", there), ok(status=204))
    assert msgspec.json.decode(requests[0].body or b"")["changes"] == {"mode": 0o755}
    assert made is False


def test_an_upload_of_another_length_is_an_error() -> None:
    with pytest.raises(UnexpectedAnswer, match="3 of 4"):
        drive(ops.upload("/f", 4), ok(b'{"path":"/f","bytes_written":3}'))


def test_conditions_become_headers() -> None:
    condition = Condition(if_match=("a", "b"), if_none_match=("*",))
    assert ops.condition_headers(condition) == {"if-match": '"a", "b"', "if-none-match": "*"}
