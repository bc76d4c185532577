"""Values and their JSON."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs9.errors import InvalidArgument, MalformedRequest, QuotaExceeded, UnprocessableBody
from fs9.types import Capability, FileInfo, FileType, FsStats, OpenFlags, StatChanges
from fs9.wire import codec
from fs9.wire.messages import Changes, OpenRequest, ReadRequest

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
SECONDS_NS = st.integers(0, 2**40).map(lambda seconds: seconds * 10**9)
INFOS = st.builds(
    FileInfo,
    path=TEXT,
    size=U64,
    file_type=st.sampled_from(FileType),
    mode=U32,
    uid=U32,
    gid=U32,
    atime_ns=SECONDS_NS,
    mtime_ns=SECONDS_NS,
    ctime_ns=SECONDS_NS,
    etag=TEXT,
    symlink_target=st.none() | TEXT,
)


@given(INFOS)
def test_an_info_round_trips(info: FileInfo) -> None:
    body = codec.encode_info(info)
    assert codec.decode_info(body) == info
    assert codec.decode_infos(codec.encode_infos([info, info])) == [info, info]
    assert codec.decode_open(codec.encode_open("h", info)) == ("h", info)
    assert ("symlink_target" in json.loads(body)) == (info.symlink_target is not None)


def test_an_info_on_the_wire_is_compact_in_the_contract_s_order() -> None:
    info = FileInfo(
        "/ä", 3, FileType.REGULAR, 0o644, 1, 2, -1, 1_999_999_999, 2 * 10**9, "e", file_id="x"
    )
    assert codec.encode_info(info).decode() == (
        '{"path":"/ä","size":3,"file_type":"regular","mode":420,"uid":1,"gid":2,'
        '"atime":0,"mtime":1,"ctime":2,"etag":"e"}'
    )


def test_infos_of_other_servers_may_have_more_and_less() -> None:
    body = (
        b'{"path":"/a","size":0,"file_type":"regular","mode":0,"uid":0,"gid":0,'
        b'"atime":0,"mtime":0,"ctime":0,"new":1,"file_id":"x"}'
    )
    assert (codec.decode_info(body).etag, codec.decode_info(body).file_id) == ("", "")


@given(st.builds(FsStats, U64, U64, U64, U64, U32, U32))
def test_stats_round_trip(stats: FsStats) -> None:
    assert codec.decode_statfs(codec.encode_statfs(stats)) == stats


@given(st.builds(OpenFlags, *[st.booleans()] * 7))
def test_flags_round_trip(flags: OpenFlags) -> None:
    body = codec.encode({"path": "/a", "flags": codec.flags_to_wire(flags)})
    request = codec.decode_body(msgspec.json.Decoder(OpenRequest), body)
    assert codec.flags_from_wire(request.flags) == flags


@given(
    st.builds(
        StatChanges,
        mode=st.none() | st.integers(0, 0o7777),
        uid=st.none() | U32,
        gid=st.none() | U32,
        size=st.none() | st.integers(0, 2**63 - 1),
        atime_ns=st.none() | st.integers(0, 9 * 10**9).map(lambda s: s * 10**9),
        mtime_ns=st.none() | st.integers(0, 9 * 10**9).map(lambda s: s * 10**9),
        name=st.none() | TEXT,
        symlink_target=st.none() | TEXT,
    )
)
def test_changes_round_trip(changes: StatChanges) -> None:
    body = codec.encode(codec.changes_to_wire(changes))
    assert b"null" not in body or "null" in str(changes)
    assert codec.changes_from_wire(msgspec.json.decode(body, type=Changes)) == changes


def test_changes_that_no_file_can_have_are_refused() -> None:
    with pytest.raises(QuotaExceeded):
        codec.changes_from_wire(Changes(size=2**63))
    with pytest.raises(InvalidArgument, match="mtime"):
        codec.changes_from_wire(Changes(mtime=2**63))
    assert codec.changes_from_wire(Changes(mode=0o100644)).mode == 0o644


_READ = msgspec.json.Decoder(ReadRequest)


@given(st.binary())
def test_what_is_no_request_is_refused_by_one_of_two_errors(body: bytes) -> None:
    with pytest.raises((MalformedRequest, UnprocessableBody)):
        codec.decode_body(_READ, body)


@given(st.data())
def test_a_body_that_is_cut_anywhere_is_not_json(data: st.DataObject) -> None:
    body = b'{"handle_id":"x","offset":1,"size":2}'
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(MalformedRequest):
        codec.decode_body(_READ, body[:cut])
    assert codec.decode_body(_READ, body) == ReadRequest("x", 1, 2)
    with pytest.raises(MalformedRequest):
        codec.decode_body(_READ, body + b"}")


def test_capabilities_are_named_in_the_contract_s_order() -> None:
    names = [
        "read",
        "write",
        "create",
        "delete",
        "rename",
        "truncate",
        "chmod",
        "chown",
        "symlink",
        "directory",
    ]
    assert [name for name, _ in codec.CAPABILITY_NAMES] == names
    some = Capability.SYMLINK | Capability.READ | Capability.STREAMING
    assert codec.capability_names(some) == ["read", "symlink"]
    assert codec.capabilities_from_names(["symlink", "read", "new"]) == (
        Capability.SYMLINK | Capability.READ
    )


def test_times_in_rfc_3339() -> None:
    assert codec.rfc3339(0) == "1970-01-01T00:00:00Z"
    assert codec.rfc3339(1_767_225_600) == "2026-01-01T00:00:00Z"
