"""router.messages: values and bytes; what is not understood is said to be so."""

from __future__ import annotations

import contextlib
import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import messages
from router.messages import (
    FromBroker,
    Heartbeat,
    Joined,
    Numbered,
    Snapshot,
    StatusRequest,
    ToBroker,
    UnknownMessage,
    ViewChanged,
    decode_from_broker,
    decode_to_broker,
    encode,
)
from router.view import SlotState, View

VIEW = View(3, "e", {0: SlotState.READY, 1: SlotState.GONE}, frozenset({1}))
#: A value for each type of field.
SAMPLES: dict[object, object] = {
    int: 5,
    float: 1.5,
    str: "text",
    bytes: b"\x00\xff",
    bool: True,
    View: VIEW,
    tuple[Numbered, ...]: (Numbered(1, ViewChanged(VIEW)),),
    tuple[messages.SlotStatus, ...]: (
        messages.SlotStatus(1, SlotState.READY, 7, True, 1, 2, 3, 4.0, None, 0.5),
    ),
}


def sample(kind: type[messages.Message]) -> typing.Any:
    hints = typing.get_type_hints(kind)
    return kind(**{field: SAMPLES[hints[field]] for field in kind.__struct_fields__})


@pytest.mark.parametrize("kind", typing.get_args(ToBroker))
def test_what_the_broker_hears_comes_back(kind: type[messages.Message]) -> None:
    envelope = decode_to_broker(encode(sample(kind), "epoch", 9))
    assert (envelope.message, envelope.epoch, envelope.sequence) == (sample(kind), "epoch", 9)


@pytest.mark.parametrize("kind", typing.get_args(FromBroker))
def test_what_the_broker_says_comes_back(kind: type[messages.Message]) -> None:
    envelope = decode_from_broker(encode(sample(kind), "epoch", 9))
    assert (envelope.message, envelope.epoch, envelope.sequence) == (sample(kind), "epoch", 9)


def test_another_version_is_named() -> None:
    data = msgspec.msgpack.encode(
        {"v": 2, "epoch": "", "sequence": 0, "message": {"kind": "Joined", "new": []}}
    )
    with pytest.raises(UnknownMessage, match="version 2 of the bus; this program speaks 1"):
        decode_to_broker(data)


def test_an_unknown_kind_is_named() -> None:
    data = msgspec.msgpack.encode(
        {"v": 1, "epoch": "", "sequence": 0, "message": {"kind": "Explode"}}
    )
    with pytest.raises(UnknownMessage, match="Explode"):
        decode_from_broker(data)


def test_the_two_directions_are_not_mixed_up() -> None:
    with pytest.raises(UnknownMessage):
        decode_to_broker(encode(Heartbeat(1)))
    with pytest.raises(UnknownMessage):
        decode_from_broker(encode(StatusRequest()))


def test_a_cut_message_is_refused_wherever_it_is_cut() -> None:
    data = encode(Snapshot(1, 2, 3, VIEW, True, (Numbered(3, ViewChanged(VIEW)),)), "e", 3)
    for end in range(len(data)):
        with pytest.raises(UnknownMessage):
            decode_from_broker(data[:end])
    with pytest.raises(UnknownMessage):
        decode_from_broker(data + b"\0")


@given(st.binary(max_size=64))
def test_no_bytes_do_harm(data: bytes) -> None:
    with pytest.raises(UnknownMessage):
        decode_to_broker(data)


@given(st.data())
def test_a_flipped_byte_is_a_message_or_refused(data: st.DataObject) -> None:
    good = bytearray(encode(Joined(1, 2), "epoch", 3))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UnknownMessage):
        decode_to_broker(bytes(good))
