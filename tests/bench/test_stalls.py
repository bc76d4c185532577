"""Requests are left out for stalls of the machine, and for nothing else."""

from bench.others import Record
from bench.stalls import Stalls


def test_only_requests_in_a_slice_with_a_stall_are_left_out():
    """A slice is a tenth of a second; a request that reaches into one counts as of it."""
    stalls = Stalls([(10.21, 10.22)])
    record = Record([(10.30, 0.01), (10.11, 0.01), (10.19, 0.02), (10.25, 0.01), (11.0, 0.5)])
    waits = record.waits(10.1, 10.9, stalls)
    assert waits.every == [0.01, 0.02, 0.01, 0.01]
    assert waits.undisturbed == [0.01, 0.01]


def test_a_stall_at_the_end_of_a_slice_spoils_the_next_one():
    """The queues that it filled empty in the next one."""
    stalls = Stalls([(10.19, 10.198)])
    assert stalls.within(10.15, 10.16)
    assert stalls.within(10.25, 10.26)
    assert not stalls.within(10.35, 10.36)
    assert stalls.share(10.05, 10.45) == 0.4
