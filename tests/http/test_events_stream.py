"""Server-sent events: frames as the standard parses them, and an answer that goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from fs9.http.events_stream import EventStream, Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Text as a frame may have it: no CR.
texts = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]))


def parse(stream: bytes) -> list[Frame]:
    """By the rules of WHATWG HTML, section 9.2.6, in the plainest way."""
    frames: list[Frame] = []
    data: list[str] = []
    name = last_id = ""
    for line in stream.decode().split("\n"):
        if not line:
            if data:
                frames.append(Frame("\n".join(data), last_id, name))
            data, name = [], ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id":
            last_id = value
    return frames


@given(st.lists(texts))
def test_what_is_framed_is_parsed(messages: list[str]):
    """Invariant tested: every text comes out as it went in, with its id."""
    frames = [Frame(text, f"7-{number}", "tick") for number, text in enumerate(messages)]
    assert parse(b"".join(frame.encode() for frame in frames)) == frames


def test_a_frame_without_an_id_keeps_the_last_one():
    assert parse(Frame("a", "1").encode() + Frame("b", name="lost").encode())[1].id == "1"


class Source:
    def __init__(self, *answers: Sequence[Frame] | None) -> None:
        self.answers = list(answers)
        self.waits: list[float] = []
        self.closed = 0

    async def next(self, wait_s: float) -> Sequence[Frame] | None:
        self.waits.append(wait_s)
        return self.answers.pop(0)

    def close(self) -> None:
        self.closed += 1


async def test_the_answer():
    """It begins at once, says something when nothing comes, and ends with its source."""
    source = Source([], [Frame("a", "1"), Frame("b", "2")], None)
    stream = EventStream(source, keep_alive_s=3)
    pieces = [piece async for piece in stream]
    await stream.aclose()
    assert pieces[0].startswith(b"retry: ")
    assert pieces[1].startswith(b":")
    assert parse(b"".join(pieces)) == [Frame("a", "1"), Frame("b", "2")]
    assert source.waits == [3, 3, 3]
    assert source.closed == 1


async def test_pieces_are_small_and_a_large_frame_is_not_copied():
    """They are what a client costs that does not read."""
    small = [Frame("x" * 1000, f"7-{number}") for number in range(200)]
    large = Frame("y" * 100_000, "8-1").encode()
    stream = EventStream(Source([*small, large, large, Frame("z", "8-2")], None))
    pieces = [piece async for piece in stream][1:]
    assert pieces.count(large) == 2
    assert all(piece is large or len(piece) <= 64 * 1024 for piece in pieces)
    assert len(pieces) < 10
    assert [frame.id for frame in parse(b"".join(pieces))][-3:] == ["8-1", "8-1", "8-2"]
