"""workers.intake: what is taken is gone, what is not stays, and nothing is copied for each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fs9.limits import Limits
from workers.blocks import Blocks
from workers.intake import Intake
from workers.request import Heads

GET = b"GET /api/v1/stat?path=/ HTTP/1.1\r\nHost: x\r\n\r\n"
PUT = b"PUT /api/v1/upload?path=/f HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"


@given(
    wires=st.lists(st.sampled_from([GET, PUT, b"\r\n" + GET]), max_size=20),
    cuts=st.lists(st.integers(min_value=1, max_value=400), min_size=1),
)
def test_requests_come_out_as_they_went_in_however_they_are_cut(
    wires: list[bytes], cuts: list[int]
) -> None:
    """Invariant tested: all bytes come out, in order, but for the empty lines before requests."""
    heads, intake = Heads(Limits(), Blocks()), Intake(b"")
    whole, found = b"".join(wires), b""
    while whole:
        cuts.append(cuts.pop(0))
        part, whole = whole[: cuts[-1]], whole[cuts[-1] :]
        intake.add(part)
        while intake.left:
            if not intake.framer.done:
                found += intake.take_body()
            elif (request := intake.next_request(heads)) is not None:
                found += request.head
                intake.begin(request)
            else:
                break
        assert intake.left == len(intake.data)
    assert not intake.left
    assert found == b"".join(wire.removeprefix(b"\r\n") for wire in wires)


def test_what_is_taken_is_not_kept_for_ever() -> None:
    """At most as much again as what is still there."""
    heads, intake = Heads(Limits(), Blocks()), Intake(GET * 1000)
    while intake.left:
        request = intake.next_request(heads)
        assert request is not None
        intake.begin(request)
        assert len(intake._data) <= 2 * intake.left + len(GET)
