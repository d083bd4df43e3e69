"""mitmproxy's hooks by the shortest way, for a proxy of our own whose addons are all known when it starts.

Per request mitmproxy asks each addon, twice per hook, whether it handles it; makes a task of each hook, and
lets what follows wait for a turn of the event loop; and checks the types of each message's fields. Here
handlers are looked up once, a hook is run where it comes up and over at once unless a handler waits, and
messages are taken as they are. What happens, in which order, stays the same. For mitmproxy 12; people who run
mitmproxy themselves don't get this.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

from mitmproxy import connection, exceptions, flow, http
from mitmproxy.addonmanager import AddonManager, traverse
from mitmproxy.hooks import Hook
from mitmproxy.proxy import commands, events, layer, mode_servers

from capture.failures import where_it_failed
from capture.network_reads import begin_read, end_read
from capture.stamped_streams import StampedStream, hold_writes, send_held

logger = logging.getLogger(__name__)

type _Handler = Callable[..., Any]
type _Rest = Coroutine[Any, Any, None]


class DirectAddons(AddonManager):
    """Looks up an event's handlers once; addons that are added after an event's first time miss it."""

    def __init__(self, master: Any) -> None:
        super().__init__(master)  # type: ignore[no-untyped-call]
        self._handlers: dict[str, list[_Handler]] = {}
        self._fields: dict[type[Hook], list[str]] = {}

    async def handle_lifecycle(self, event: Hook) -> None:
        """Call the handlers of `event`, and of a flow's update; what they raise is logged."""
        rest = self.begin(event, self.arguments(event))
        if rest is not None:
            await rest

    def begin(self, event: Hook, arguments: list[Any]) -> _Rest | None:
        """As `handle_lifecycle` up to the first handler that waits; what is left then, or None."""
        rest = self._begin(event.name, arguments, iter(self._of(event.name)))
        if not isinstance(arguments[0], flow.Flow) or not self._of("update"):
            return rest
        return self._updated(rest, [arguments])

    def arguments(self, event: Hook) -> list[Any]:
        """What the handlers of `event` are called with."""
        kind = type(event)
        names = self._fields.get(kind)
        if names is None:
            names = self._fields[kind] = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
        return [getattr(event, name) for name in names]

    def _of(self, name: str) -> list[_Handler]:
        found = self._handlers.get(name)
        if found is None:
            every = (getattr(addon, name, None) for addon in traverse(self.chain))  # type: ignore[no-untyped-call]
            self._handlers[name] = found = [handler for handler in every if callable(handler)]
        return found

    def _begin(self, name: str, arguments: list[Any], handlers: Iterator[_Handler]) -> _Rest | None:
        for handler in handlers:
            try:
                waits = handler(*arguments)
                if waits is not None and inspect.isawaitable(waits):
                    return self._go_on(name, arguments, waits, handlers)
            except exceptions.AddonHalt:
                return None
            except exceptions.OptionsError:
                raise
            except Exception as error:
                _say(name, error)
        return None

    async def _go_on(
        self, name: str, arguments: list[Any], waits: Awaitable[Any], handlers: Iterator[_Handler]
    ) -> None:
        try:
            await waits
        except exceptions.AddonHalt:
            return
        except exceptions.OptionsError:
            raise
        except Exception as error:
            _say(name, error)
        rest = self._begin(name, arguments, handlers)
        if rest is not None:
            await rest

    async def _updated(self, rest: _Rest | None, arguments: list[Any]) -> None:
        if rest is not None:
            await rest
        rest = self._begin("update", arguments, iter(self._of("update")))
        if rest is not None:
            await rest


def _say(name: str, error: Exception) -> None:
    """A traceback could show what no log may hold."""
    logger.error("peaktape: an addon failed in %s (%s)", name, where_it_failed(error))


class _HooksOnTheWay:
    """A connection's outermost layer: gives what it wants done, but for the hooks that `run` did."""

    def __init__(
        self,
        inner: layer.Layer,
        run: Callable[[commands.StartHook], bool],
        came_ns: Callable[[connection.Connection], int],
    ) -> None:
        self._inner = inner
        self._run = run
        self._came_ns = came_ns
        self.context = inner.context

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As a layer does; then what follows the hooks that this led to."""
        if not isinstance(event, events.DataReceived):
            yield from self._handle(event)
            return
        begin_read(self._came_ns(event.connection))
        try:
            yield from self._handle(event)
        finally:
            end_read()

    def _handle(self, event: events.Event) -> layer.CommandGenerator[None]:
        come: deque[events.Event] = deque((event,))
        while come:
            for command in self._inner.handle_event(come.popleft()):
                if not isinstance(command, commands.StartHook) or not self._run(command):
                    yield command
                elif command.blocking:
                    come.append(events.HookCompleted(command))


class DirectHandler(mode_servers.ProxyConnectionHandler):
    """A connection that runs its hooks where they come up; one that waits gets a task."""

    def __init__(self, *given: Any) -> None:
        self._waiting: dict[commands.StartHook, _Rest] = {}
        super().__init__(*given)  # type: ignore[no-untyped-call]

    @property
    def layer(self) -> Any:
        """The outermost layer."""
        return self._outermost

    @layer.setter
    def layer(self, outermost: Any) -> None:
        self._outermost = _HooksOnTheWay(outermost, self._run, self._came_ns)

    def _came_ns(self, sender: connection.Connection) -> int:
        """When what was read last of a connection came; 0 if nobody knows."""
        transport = self.transports.get(sender)
        return getattr(transport.reader, "came_ns", 0) if transport is not None else 0

    def _run(self, hook: commands.StartHook) -> bool:
        """Whether a hook is over; else `handle_hook` does the rest of it."""
        if self.master.should_exit.is_set():
            # The end cuts connections off where they are: nobody gets an answer of the proxy's own.
            return False
        addons: Any = self.master.addons
        arguments = addons.arguments(hook)
        rest = addons.begin(hook, arguments)
        (data,) = arguments
        if rest is None and not (isinstance(data, flow.Flow) and data.intercepted):
            return True
        self._waiting[hook] = _resumed(rest, data)
        return False

    async def server_event(self, event: events.Event) -> None:
        """Do what `event` leads to; what is written meanwhile leaves at its end."""
        hold_writes()
        try:
            await super().server_event(event)
        finally:
            send_held()

    async def drain_writers(self) -> None:
        """Wait for those who take less than they are given; mostly there are none."""
        for transport in self.transports.values():
            writer: Any = transport.writer
            if writer is not None and not (isinstance(writer, StampedStream) and not writer.wants_drain):
                await super().drain_writers()  # type: ignore[no-untyped-call]
                return

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Run a hook, or what is left of it."""
        rest = self._waiting.pop(hook, None)
        if rest is None:
            await super().handle_hook(hook)
            return
        with self.timeout_watchdog.disarm():
            await rest


async def _resumed(rest: _Rest | None, data: Any) -> None:
    if rest is not None:
        await rest
    if isinstance(data, flow.Flow):
        await data.wait_for_resume()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def direct_hooks() -> Iterator[None]:
    """While this lasts, mitmproxy's connections are `DirectHandler`s and its messages go unchecked."""
    handler, check = mode_servers.ProxyConnectionHandler, getattr(http.MessageData, "__post_init__", None)
    mode_servers.ProxyConnectionHandler = DirectHandler  # type: ignore[misc]
    if check is not None:
        http.MessageData.__post_init__ = lambda message: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        mode_servers.ProxyConnectionHandler = handler  # type: ignore[misc]
        if check is not None:
            http.MessageData.__post_init__ = check  # type: ignore[method-assign]
