"""mitmproxy's hooks by the shortest way, for a proxy of our own whose addons are all known when it starts.

Per request mitmproxy asks each addon, twice per hook, whether it handles it; lets what follows a hook wait
for a turn of the event loop; and checks the types of each message's fields. Here handlers are looked up once,
a hook that has none or whose handlers don't wait is over at once, and messages are taken as they are. What
happens, in which order, stays the same. For mitmproxy 12; people who run mitmproxy themselves don't get this.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from mitmproxy import exceptions, flow, http
from mitmproxy.addonmanager import AddonManager, traverse
from mitmproxy.hooks import Hook
from mitmproxy.proxy import commands, events, mode_servers

from capture.failures import where_it_failed

logger = logging.getLogger(__name__)


class DirectAddons(AddonManager):
    """Looks up an event's handlers once; addons that are added after an event's first time miss it."""

    def __init__(self, master: Any) -> None:
        super().__init__(master)  # type: ignore[no-untyped-call]
        self._handlers: dict[str, list[Callable[..., Any]]] = {}
        self._fields: dict[type[Hook], list[str]] = {}

    async def handle_lifecycle(self, event: Hook) -> None:
        """Call the handlers of `event`, and of a flow's update; what they raise is logged."""
        arguments = self._arguments(event)
        await self._call(event.name, arguments)
        if isinstance(arguments[0], flow.Flow) and self._of("update"):
            await self._call("update", [arguments])

    async def _call(self, name: str, arguments: list[Any]) -> None:
        for handler in self._of(name):
            try:
                waits = handler(*arguments)
                if waits is not None and inspect.isawaitable(waits):
                    await waits
            except exceptions.AddonHalt:
                return
            except exceptions.OptionsError:
                raise
            except Exception as error:  # a traceback could show what no log may hold
                logger.error("peaktape: an addon failed in %s (%s)", name, where_it_failed(error))

    def _of(self, name: str) -> list[Callable[..., Any]]:
        found = self._handlers.get(name)
        if found is None:
            every = (getattr(addon, name, None) for addon in traverse(self.chain))  # type: ignore[no-untyped-call]
            self._handlers[name] = found = [handler for handler in every if callable(handler)]
        return found

    def _arguments(self, event: Hook) -> list[Any]:
        kind = type(event)
        names = self._fields.get(kind)
        if names is None:
            names = self._fields[kind] = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
        return [getattr(event, name) for name in names]


class DirectHandler(mode_servers.ProxyConnectionHandler):
    """A connection that goes on in the same turn after a hook whose handlers did not wait."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)  # type: ignore[no-untyped-call]
        self._turn = 0
        self._turning = False
        self._over: deque[commands.StartHook] = deque()

    async def server_event(self, event: events.Event) -> None:
        """Take an event, and then those that say that the hooks it led to are over."""
        await self._take(event)
        while self._over:
            await self._take(events.HookCompleted(self._over.popleft()))

    async def _take(self, event: events.Event) -> None:
        # Only the last part of this runs without waiting; a hook that finds its turn over has waited.
        self._turn += 1
        self._turning = True
        try:
            await super().server_event(event)
        finally:
            self._turning = False

    async def hook_task(self, hook: commands.StartHook) -> None:
        """Run a hook's handlers; what follows comes at once unless one of them waited."""
        turn = self._turn
        await self.handle_hook(hook)
        if not hook.blocking:
            return
        if self._turning and self._turn == turn:
            self._over.append(hook)
        else:
            await self.server_event(events.HookCompleted(hook))


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
