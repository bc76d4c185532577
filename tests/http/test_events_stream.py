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
