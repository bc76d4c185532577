"""Operations that begin where no task runs, as workers begin small ones."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import NotFound
from fs9.provider import BaseProvider
from fs9.providers.hellofs import HelloFs
from fs9.providers.tasked import TaskedProvider, tasked

if TYPE_CHECKING:
    from collections.abc import Coroutine

_OPERATIONS: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("stat", ("/a",)),
    ("wstat", ("/a", None)),
    ("statfs", ("/a",)),
    ("open", ("/a", None)),
    ("read", (None, 0, 1)),
    ("write", (None, 0, b"")),
    ("close", (None,)),
    ("readdir", ("/", "", 1)),
    ("remove", ("/a",)),
    ("follow", ("/a", None)),
)


class Asking(BaseProvider):
    """Every operation asks for the task that it is in before it waits for anything."""

    name = "asking"
    volatile = True

    def __getattribute__(self, name: str) -> Any:
        if name not in dict(_OPERATIONS):
            return super().__getattribute__(name)

        async def operation(*args: Any, **more: Any) -> str:
            async with asyncio.timeout(60):
                await asyncio.sleep(0)
                if args[0] == "/none":
                    raise NotFound("/none")
                return name

        return operation


async def untasked(work: Coroutine[Any, Any, Any]) -> Any:
    """Begin the work in no task, and go on in one where it waits."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[Any] = loop.create_future()

    def begin() -> None:
        assert asyncio.current_task() is None
        try:
            waits = work.send(None)
        except StopIteration as done:
            over.set_result(done.value)
        except Exception as error:
            over.set_exception(error)
        else:
            assert waits is None, "it gives way, and waits for nothing"
            loop.create_task(work).add_done_callback(settle)

    def settle(task: asyncio.Task[Any]) -> None:
        error = task.exception()
        over.set_exception(error) if error else over.set_result(task.result())

    loop.call_soon(begin, context=contextvars.copy_context())
    return await over


@pytest.mark.parametrize(("name", "args"), _OPERATIONS, ids=[name for name, _ in _OPERATIONS])
async def test_a_provider_that_needs_a_task_gets_one(name: str, args: tuple[object, ...]):
    with pytest.raises(RuntimeError, match="inside a task"):
        await untasked(getattr(Asking(), name)(*args))
    provider = tasked(Asking())
    assert (provider.name, provider.volatile) == ("asking", True)
    wanted = None if name in {"wstat", "remove"} else name
    assert await untasked(getattr(provider, name)(*args)) == wanted
    assert await getattr(provider, name)(*args) == wanted


async def test_errors_and_the_rest_pass():
    provider = tasked(Asking())
    with pytest.raises(NotFound, match="/none"):
        await untasked(provider.stat("/none"))
    assert provider.capabilities() == BaseProvider().capabilities()
    await provider.destroy()
    await provider.aclose()


def test_what_needs_none_is_left_as_it_is():
    """By default a provider is believed to need one: those of others are not asked."""
    assert not BaseProvider.untasked
    assert HelloFs.untasked
    assert isinstance(tasked(BaseProvider()), TaskedProvider)
