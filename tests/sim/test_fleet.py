"""One owner for each namespace, through loss, death, pauses, drains, reloads and a dead broker."""

from __future__ import annotations

import pytest

from router.view import SlotState
from tests.sim.world import NAMESPACES, Chaos, World, ring_of

SEEDS = 1200
_BLOCK = 100
_CHAOS_S = 3.0
#: The longest pause, grace and deadline are over after this, and what they led to.
_CALM_S = 9.0
_CHECK_S = 0.2


@pytest.mark.parametrize("first", range(0, SEEDS, _BLOCK))
def test_every_namespace_has_one_owner_in_the_end_and_never_two(first: int) -> None:
    for seed in range(first, first + _BLOCK):
        try:
            live_through(seed)
        except BaseException:
            print(f"seed {seed}")
            raise


def live_through(seed: int) -> World:
    """Chaos, then calm; what must hold at the end of it."""
    world = World(seed)
    Chaos(world)
    world.run_until(_CHAOS_S)
    world.chaos = False
    world.run_until(_CHAOS_S + _CALM_S)
    check_agreement(world)
    check_requests(world)
    return world


def check_agreement(world: World) -> None:
    state = world.broker.state
    assert state is not None
    view = state.view
    assert view.serving
    assert state.operation is None
    assert sorted(world.workers) == list(range(world.wanted)), "the arbiter's work"
    for slot in range(world.wanted):
        worker = world.workers[slot]
        assert worker.view == view, f"slot {slot} follows another view"
        assert worker.subscriber.in_sync(world.now_s)
        assert worker.reporter.outstanding == 0
        # Ready, or drained because somebody wanted it.
        assert view.state(slot) in {SlotState.READY, SlotState.DRAINED}, view
    assert not view.leaving
    assert all(view.state(slot) is SlotState.GONE for slot in view.slots if slot >= world.wanted)
    assert state.acknowledged == state.sequence


def check_requests(world: World) -> None:
    """From wherever a request comes, it reaches the owner of the ring, which holds the lock."""
    assert world.broker.state is not None
    ring = ring_of(world.broker.state.view.serving)
    world.served.clear()
    for worker in list(world.workers.values()):
        for name in NAMESPACES:
            worker.serve(name, 0, world.now_s + _CHECK_S)
    world.run_until(world.now_s + _CHECK_S)
    assert len(world.served) == len(NAMESPACES) * len(world.workers), "a request got lost"
    for name, slot, hops in world.served:
        assert slot == ring.owner(name)
        assert hops <= 1
        assert world.locks[name] is world.workers[slot]


def test_the_same_seed_gives_the_same_story() -> None:
    assert live_through(3).served == live_through(3).served
